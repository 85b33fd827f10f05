package pull

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func fixedToken(context.Context, string) (string, error) { return "t", nil }

// newWatcher returns a Watcher without randomness, closed at the test's end.
func newWatcher(t *testing.T, c Config) *Watcher {
	t.Helper()
	c.BaseURL = "https://receipts.example"
	if c.Token == nil {
		c.Token = fixedToken
	}
	c.Random = func() float64 { return 0 }
	w, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	return w
}

func page(id, version string, delta bool, count int, readers ...string) string {
	for i, r := range readers {
		readers[i] = fmt.Sprintf(`{"reader_id": %q, "read_at": "2026-11-23T08:00:04.120Z"}`, r)
	}
	return fmt.Sprintf(`{"message_id": %q, "version": %q, "state": "active", "read_count": %d, "recipient_count": 100, "delta": %t, "readers": [%s], "next": null}`,
		id, version, count, delta, strings.Join(readers, ","))
}

// asked returns what a batch presents: versions by message ID.
func asked(t *testing.T, r *http.Request) (since map[string]string, positions []string) {
	t.Helper()
	var body struct {
		Messages []struct {
			MessageID string `json:"message_id"`
			Since     string
		}
		Positions []string `json:"min_position"`
	}
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		t.Errorf("%s %s: %v", r.Method, r.URL, err)
	}
	since = make(map[string]string)
	for _, m := range body.Messages {
		since[m.MessageID] = m.Since
	}
	return since, body.Positions
}

// batch is an answer with these messages.
func batch(messages ...string) string {
	return `{"messages": [` + strings.Join(messages, ",") + `], "unchanged": [], "failed": [], "poll": {}}`
}

func TestConfig(t *testing.T) {
	good := Config{BaseURL: "https://h", Token: fixedToken}
	for _, c := range []struct {
		names  string
		change func(*Config)
	}{
		{"Token", func(c *Config) { c.Token = nil }},
		{"BaseURL", func(c *Config) { c.BaseURL = "" }},
		{"BaseURL", func(c *Config) { c.BaseURL = "h:8080" }},
		{"BaseURL", func(c *Config) { c.BaseURL = "ftp://h" }},
		{"BaseURL", func(c *Config) { c.BaseURL = "https:///v1" }},
		{"BaseURL", func(c *Config) { c.BaseURL = "https://h?x=1" }},
		{"BaseURL", func(c *Config) { c.BaseURL = "https://h#x" }},
		{"BaseURL", func(c *Config) { c.BaseURL = "https://u:p@h" }},
		{"BaseURL", func(c *Config) { c.BaseURL = "https://h\x7f" }},
		{"Timeout", func(c *Config) { c.Timeout = -1 }},
		{"Interval", func(c *Config) { c.Interval = -1 }},
		{"Window", func(c *Config) { c.Window = maxPoll + 1 }},
		{"PageSize", func(c *Config) { c.PageSize = 2001 }},
		{"PageSize", func(c *Config) { c.PageSize = -1 }},
		{"Keep", func(c *Config) { c.Keep = -2 }},
	} {
		bad := good
		c.change(&bad)
		w, err := New(bad)
		if !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), c.names) {
			t.Errorf("%+v: %v, want one about %s", bad, err, c.names)
		}
		if w != nil {
			w.Close()
		}
	}
	w, err := New(good)
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
}

// TestViewIsASnapshot: views that were handed out do not change, and what their
// holders append does not show.
func TestViewIsASnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pulls := 0
		w := newWatcher(t, Config{Transport: transport(func(*http.Request) (*http.Response, error) {
			pulls++
			switch pulls {
			case 1:
				return httpResponse(200, nil, batch(page("m1", "v1", false, 3, "a", "b", "c"))), nil
			case 2:
				return httpResponse(200, nil, batch(page("m1", "v2", true, 4, "d"))), nil
			case 3:
				return httpResponse(200, nil, batch(page("m1", "v3", true, 5, "e"))), nil
			}
			return httpResponse(200, nil, batch(page("m1", "v4", false, 1, "z"))), nil
		})})
		w.Look(Message{ID: "m1"})
		var views []View
		for range 4 {
			synctest.Wait()
			views = append(views, w.View("m1"))
			time.Sleep(2 * time.Second)
		}
		for _, v := range views {
			mine := append(v.Readers, Reader{ReaderID: "stranger"})
			mine[len(mine)-1].ReaderID = "a guest"
		}
		for i, want := range []string{"abc", "abcd", "abcde", "z"} {
			got := ""
			for _, r := range views[i].Readers {
				got += r.ReaderID
			}
			if got != want {
				t.Errorf("view %d has readers %q, want %q", i, got, want)
			}
		}
	})
}

// TestErasure: an answer after an erasure replaces the set and may have no
// sender; what comes then is added to it, under its version.
func TestErasure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var since []string
		w := newWatcher(t, Config{Transport: transport(func(r *http.Request) (*http.Response, error) {
			presented, _ := asked(t, r)
			since = append(since, presented["m1"])
			var body string
			switch len(since) {
			case 1:
				body = strings.Replace(page("m1", "v1", false, 2, "a", "b"), "{", `{"sender_id": "alice", `, 1)
			case 2:
				body = strings.Replace(page("m1", "v2", false, 1, "b"), "{", `{"sender_id": null, `, 1)
			default:
				body = strings.Replace(page("m1", "v3", true, 2, "a"), "{", `{"sender_id": null, `, 1)
			}
			return httpResponse(200, nil, batch(body)), nil
		})})
		w.Look(Message{ID: "m1"})
		for _, want := range []string{"alice [a b] 2", " [b] 1", " [b a] 2"} {
			synctest.Wait()
			v := w.View("m1")
			var readers []string
			for _, r := range v.Readers {
				readers = append(readers, r.ReaderID)
			}
			if got := fmt.Sprintf("%s %v %d", v.SenderID, readers, v.ReadCount); got != want || v.Err != nil {
				t.Errorf("got %q, %v, want %q", got, v.Err, want)
			}
			time.Sleep(2 * time.Second)
		}
		if want := []string{"", "v1", "v2"}; !slices.Equal(since[:3], want) {
			t.Errorf("since was %q, want %q", since, want)
		}
	})
}

// TestOnChange: it is told of every change, after the change, one call at a
// time, and may use the Watcher.
func TestOnChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w *Watcher
		var calls atomic.Int32
		var seen []string
		w = newWatcher(t, Config{
			Transport: transport(func(*http.Request) (*http.Response, error) {
				time.Sleep(100 * time.Millisecond)
				return httpResponse(200, nil, batch(page("m1", "v1", false, 1, "a"))), nil
			}),
			OnChange: func(id string) {
				if calls.Add(1) > 1 {
					t.Error("two calls at a time")
				}
				defer calls.Add(-1)
				v := w.View(id)
				line := fmt.Sprint(id, " ", v.Looking, " ", v.Pulls, " ", len(v.Readers), " ", v.Ended)
				if len(seen) == 0 || seen[len(seen)-1] != line {
					seen = append(seen, line)
				}
				if len(v.Readers) == 1 {
					w.Leave(id)
				}
			},
		})
		w.Look(Message{ID: "m1"})
		time.Sleep(time.Second)
		synctest.Wait()
		want := []string{"m1 true 1 0 ", "m1 true 1 1 ", "m1 false 1 1 left"}
		if len(seen) > 0 && seen[0] == "m1 true 0 0 " {
			seen = seen[1:]
		}
		if !slices.Equal(seen, want) {
			t.Errorf("OnChange saw %q, want %q", seen, want)
		}
	})
}

func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		requests, ended := 0, 0
		w := newWatcher(t, Config{Transport: transport(func(r *http.Request) (*http.Response, error) {
			requests++
			<-r.Context().Done()
			ended++
			return nil, r.Context().Err()
		})})
		w.Look(Message{ID: "m1"})
		synctest.Wait()
		w.Close()
		if requests != 1 || ended != 1 {
			t.Errorf("%d requests, of which %d have ended", requests, ended)
		}
		w.Close()
		w.Look(Message{ID: "m2"})
		w.Refresh("m1")
		time.Sleep(time.Minute)
		if requests != 1 {
			t.Error("a closed Watcher has pulled")
		}
		if v := w.View("m1"); v.Looking || v.Ended != Closed {
			t.Errorf("after Close the view is %+v", v)
		}
		if v := w.View("m2"); v.Looking || v.MessageID != "m2" {
			t.Errorf("after Close, Look has made %+v", v)
		}
	})
}

// TestKeep: what was left first is forgotten first, but never so soon that it
// could be pulled within an interval.
func TestKeep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pulled := make(map[string]time.Time)
		w := newWatcher(t, Config{Keep: 2, Transport: transport(func(r *http.Request) (*http.Response, error) {
			var pages []string
			since, _ := asked(t, r)
			for id := range since {
				if last, ok := pulled[id]; ok && time.Since(last) < DefaultInterval {
					t.Errorf("%s is pulled %s after its last pull", id, time.Since(last))
				}
				pulled[id] = time.Now()
				pages = append(pages, page(id, "v1", false, 1, "a"))
			}
			return httpResponse(200, nil, batch(pages...)), nil
		})})
		visit := func(id string) {
			w.Look(Message{ID: id})
			synctest.Wait()
			w.Leave(id)
		}
		for _, id := range []string{"m1", "m2", "m3", "m4"} {
			visit(id)
			time.Sleep(3 * time.Second)
		}
		visit("m5")
		for id, want := range map[string]bool{"m1": false, "m2": false, "m3": false, "m4": true, "m5": true} {
			if got := w.View(id).Version != ""; got != want {
				t.Errorf("%s is remembered: %t, want %t", id, got, want)
			}
		}
		for range 3 {
			for _, id := range []string{"n1", "n2", "n3", "n4"} {
				visit(id)
				time.Sleep(10 * time.Millisecond)
			}
		}
	})
}

func TestToken(t *testing.T) {
	gone := errors.New("signed out")
	for _, c := range []struct {
		name     string
		token    func(ctx context.Context, refused string) (string, error)
		requests int
		ended    Ended
		err      error
	}{
		{"cannot be had", func(context.Context, string) (string, error) { return "", gone }, 0, WindowOver, gone},
		{"does not come", func(ctx context.Context, _ string) (string, error) { <-ctx.Done(); return "", ctx.Err() }, 0, WindowOver, errTimeout},
		{"has no other", func(_ context.Context, refused string) (string, error) {
			if refused != "" {
				return "", gone
			}
			return "t", nil
		}, 1, Failed, gone},
		{"is refused again", fixedToken, 2, Failed, nil},
		{"cannot be sent", func(context.Context, string) (string, error) { return "t\r\nX: y", nil }, 0, WindowOver, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				requests := 0
				// The real transport refuses such a header by itself.
				w := newWatcher(t, Config{Token: c.token, Transport: transport(func(r *http.Request) (*http.Response, error) {
					if strings.ContainsAny(r.Header.Get("Authorization"), "\r\n") {
						return nil, errors.New("invalid header")
					}
					requests++
					return httpResponse(401, nil, `{"code": "invalid_token"}`), nil
				})})
				w.Look(Message{ID: "m1"})
				time.Sleep(time.Minute)
				v := w.View("m1")
				if requests != c.requests || v.Ended != c.ended || v.Err == nil || c.err != nil && !errors.Is(v.Err, c.err) {
					t.Errorf("%d requests and %q: %v", requests, v.Ended, v.Err)
				}
				var problem *Error
				if c.ended == Failed && (!errors.As(v.Err, &problem) || problem.Code != "invalid_token") {
					t.Errorf("the error is %v, which is not the server's", v.Err)
				}
			})
		})
	}
}

// TestBodyLimits: no answer is read beyond its bound.
func TestBodyLimits(t *testing.T) {
	for _, c := range []struct {
		status, bound int
		ended         Ended
		text          string
	}{{200, maxBody, NotEnded, errTooLarge.Error()}, {400, maxErrorBody, Failed, "400 Bad Request"}, {302, maxErrorBody, NotEnded, "302 Found"}} {
		synctest.Test(t, func(t *testing.T) {
			var read atomic.Int64
			w := newWatcher(t, Config{Transport: transport(func(*http.Request) (*http.Response, error) {
				r := httpResponse(c.status, nil, "")
				r.Body = io.NopCloser(readerFunc(func(p []byte) (int, error) {
					read.Add(int64(len(p)))
					return copy(p, bytes.Repeat([]byte{' '}, len(p))), nil
				}))
				return r, nil
			})})
			w.Look(Message{ID: "m1"})
			synctest.Wait()
			if n := read.Load(); n == 0 || n > int64(2*c.bound) {
				t.Errorf("%d bytes of the %d were read", n, c.status)
			}
			if v := w.View("m1"); v.Err == nil || !strings.Contains(v.Err.Error(), c.text) || v.Ended != c.ended {
				t.Errorf("an endless %d makes %+v", c.status, v)
			}
		})
	}
}

// TestPullLimit: pages that never end are not kept beyond the bound for all of
// them, whatever each of them is.
func TestPullLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		padding := strings.Repeat(" ", maxBody-1000)
		pages := 0
		w := newWatcher(t, Config{Transport: transport(func(*http.Request) (*http.Response, error) {
			pages++
			body := strings.Replace(page("m1", "v1", false, 1, "a"), `"next": null`, fmt.Sprintf(`"next": "c%d"`, pages), 1)
			if pages == 1 {
				body = batch(body)
			}
			return httpResponse(200, nil, body+padding), nil
		})})
		w.Look(Message{ID: "m1"})
		synctest.Wait()
		if v := w.View("m1"); !errors.Is(v.Err, errTooLarge) || pages > maxPull/maxBody+2 { // the batch, and those after it
			t.Errorf("after %d pages the view is %+v", pages, v)
		}
	})
}

// TestPageLimit: a page of more readers than were asked for is no answer.
func TestPageLimit(t *testing.T) {
	for size, want := range map[int]string{2: "v1", 1: ""} {
		synctest.Test(t, func(t *testing.T) {
			w := newWatcher(t, Config{PageSize: size, Transport: transport(func(*http.Request) (*http.Response, error) {
				return httpResponse(200, nil, batch(page("m1", "v1", false, 2, "a", "b"))), nil
			})})
			w.Look(Message{ID: "m1"})
			synctest.Wait()
			if v := w.View("m1"); v.Version != want || (v.Err == nil) != (want != "") {
				t.Errorf("two readers where %d were asked for make %+v", size, v)
			}
		})
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// TestConcurrentUse calls everything from everywhere, for the race detector.
func TestConcurrentUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWatcher(t, Config{Transport: transport(func(r *http.Request) (*http.Response, error) {
			time.Sleep(time.Millisecond)
			var pages []string
			since, _ := asked(t, r)
			for id := range since {
				pages = append(pages, page(id, "v1", false, 1, "a"))
			}
			return httpResponse(200, nil, batch(pages...)), nil
		})})
		var users sync.WaitGroup
		for n := range 4 {
			users.Go(func() {
				for i := range 200 {
					id := fmt.Sprint("m", (n+i)%5)
					switch i % 4 {
					case 0:
						w.Look(Message{ID: id, Positions: []string{"p"}})
					case 1:
						w.Refresh(id)
					case 2:
						_ = w.View(id)
					default:
						w.Leave(id)
					}
					time.Sleep(time.Duration(i) * 100 * time.Microsecond)
				}
			})
		}
		users.Wait()
	})
}

// TestOverTheWire pulls from a real server, with IDs that paths do not like.
func TestOverTheWire(t *testing.T) {
	const id = `a/b?c#d%2F é`
	message := func(version string, delta bool, next string, readers ...string) string {
		body := page("m1", version, delta, len(readers), readers...)
		body = strings.Replace(body, `"m1"`, strconv.Quote(id), 1)
		return strings.Replace(body, `"next": null`, `"next": `+next, 1)
	}
	const poll = `"poll": {"interval_ms": 10, "window_ms": 20000, "stop": false}}`
	mux := http.NewServeMux()
	mux.HandleFunc("POST /base/v1/pulls", func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Seenby-Lag-Ms", "17")
		since, positions := asked(t, r)
		version, named := since[id]
		switch {
		case r.Header.Get("Authorization") != "Bearer t":
			rw.WriteHeader(http.StatusUnauthorized)
		case !named || len(since) != 1:
			rw.WriteHeader(http.StatusBadRequest)
		case slices.Equal(positions, []string{"p1"}):
			rw.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(rw)
			fmt.Fprint(z, `{"messages": [`+message("v1", false, `"c1"`, "bob")+`],`+poll)
			_ = z.Close()
		case version == "v1":
			fmt.Fprint(rw, `{"messages": [`+message("v2", true, "null", "amy")+`],`+poll)
		case version == "v2":
			fmt.Fprint(rw, `{"unchanged": [`+strconv.Quote(id)+`],`+poll)
		default:
			rw.WriteHeader(http.StatusBadRequest)
		}
	})
	mux.HandleFunc("GET /base/v1/messages/{id}/receipts", func(rw http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer t" || r.PathValue("id") != id || r.URL.Query().Get("cursor") != "c1" {
			rw.WriteHeader(http.StatusBadRequest)
		}
		fmt.Fprint(rw, message("v1", false, "null", "cem"))
	})
	mux.HandleFunc("POST /moved/", func(rw http.ResponseWriter, r *http.Request) {
		http.Redirect(rw, r, "/base/v1/pulls", http.StatusTemporaryRedirect)
	})
	server := httptest.NewServer(mux)
	defer server.Close()
	own := &http.Transport{}
	defer own.CloseIdleConnections()

	view := func(base string, enough func(View) bool) View {
		t.Helper()
		changed := make(chan struct{}, 1)
		w, err := New(Config{BaseURL: server.URL + base, Token: fixedToken, Transport: own, OnChange: func(string) {
			select {
			case changed <- struct{}{}:
			default:
			}
		}})
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		w.Look(Message{ID: id, Positions: []string{"p1"}})
		for v := w.View(id); ; v = w.View(id) {
			if enough(v) || v.Ended != NotEnded {
				if spent := w.Totals(); spent.Requests < v.Pulls || v.Version != "" && spent.Bytes <= v.Bytes {
					t.Errorf("%+v for a view of %d pulls and %d bytes", spent, v.Pulls, v.Bytes)
				}
				return v
			}
			<-changed
		}
	}
	v := view("/base/", func(v View) bool { return v.Unchanged >= 2 })
	var readers []string
	for _, r := range v.Readers {
		readers = append(readers, r.ReaderID)
	}
	if v.Version != "v2" || !slices.Equal(readers, []string{"bob", "cem", "amy"}) || v.Err != nil || v.Lag != 17*time.Millisecond || v.Bytes == 0 {
		t.Errorf("the view is %+v", v)
	}
	v = view("/moved", func(v View) bool { return v.Err != nil })
	var problem *Error
	if !errors.As(v.Err, &problem) || problem.Status != http.StatusTemporaryRedirect || v.Version != "" {
		t.Errorf("a redirect makes %+v", v)
	}
}

// TestNoID: what is not UTF-8 cannot be asked for, and keeps no other from being.
func TestNoID(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWatcher(t, Config{Transport: transport(func(r *http.Request) (*http.Response, error) {
			if since, _ := asked(t, r); len(since) != 1 {
				t.Errorf("asked for %q", since)
			}
			return httpResponse(200, nil, batch(page("m1", "v1", false, 1, "a"))), nil
		})})
		w.Look(Message{ID: "m\xff"}, Message{ID: "m1"})
		w.Refresh("m\xff")
		synctest.Wait()
		if v := w.View("m\xff"); v.Looking || v.Ended != Failed || !errors.Is(v.Err, errNotUTF8) {
			t.Errorf("%+v", v)
		}
		if v := w.View("m1"); v.Version != "v1" {
			t.Errorf("%+v", v)
		}
	})
}
