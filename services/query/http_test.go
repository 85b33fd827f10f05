package query

import (
	"bufio"
	"context"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/seenby/seenby/services/auth"
	"github.com/seenby/seenby/services/contract"
	"github.com/seenby/seenby/services/projector/protocol"
)

// over returns the owner at an HTTP server that does what handler says.
func over(t *testing.T, handler http.HandlerFunc) (Owner, *auth.Keys) {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return at(t, server.URL, "")
}

func at(t *testing.T, address, caFile string) (Owner, *auth.Keys) {
	t.Helper()
	keys := testKeys(t)
	nodes, closeIdle, err := HTTPNodes([]string{address}, HTTPConfig{Internal: auth.Internal{Keys: keys, Now: time.Now}, CAFile: caFile})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(closeIdle)
	return nodes[0].Owner, keys
}

func askFor(id string) *Ask {
	return &Ask{Receipts: &contract.Pull{MessageID: id}, Caller: contract.Caller{Subject: "alice"}, Log: logOf(goodStatus(0, 1))}
}

func mark(w http.ResponseWriter) { w.Header().Set(protocol.AnswerHeader, "1") }

// TestHTTPPassesAPullOn: what the client sent and who they are arrives, signed;
// what the projector answers comes back, its bytes and the contract's headers.
func TestHTTPPassesAPullOn(t *testing.T) {
	for _, id := range []string{"m1", "a/b", "a%2Fb", "a b+c;d?e#f", "日本", ".", "..."} {
		var got *http.Request
		owner, keys := over(t, func(w http.ResponseWriter, r *http.Request) {
			got = r.Clone(context.Background())
			mark(w)
			for name, value := range map[string]string{"Content-Type": "application/json", "ETag": `W/"v"`, "Seenby-Position": "p", "Seenby-Lag-Ms": "5",
				"Seenby-Poll": "stop", "Retry-After": "3", "Set-Cookie": "a=b", "X-Other": "x", "Cache-Control": "no-store"} {
				w.Header().Set(name, value)
			}
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = io.WriteString(w, "the body")
		})
		ask := askFor(id)
		ask.RawQuery, ask.IfNoneMatch = "limit=1&since=%41;x=#y", []string{`"a"`, `W/"b"`}
		answer, err := owner.Pull(context.Background(), ask)
		if err != nil {
			t.Fatal(err)
		}
		want := http.Header{"Content-Type": {"application/json"}, "Etag": {`W/"v"`}, "Seenby-Position": {"p"}, "Seenby-Lag-Ms": {"5"},
			"Seenby-Poll": {"stop"}, "Retry-After": {"3"}}
		if answer.Status != 503 || string(answer.Body) != "the body" || !reflect.DeepEqual(answer.Header, want) {
			t.Errorf("%d %q %v", answer.Status, answer.Body, answer.Header)
		}
		if got.RequestURI != protocol.ReceiptsPath(id)+"?"+ask.RawQuery || !reflect.DeepEqual(got.Header["If-None-Match"], ask.IfNoneMatch) {
			t.Errorf("%s %v", got.RequestURI, got.Header)
		}
		peer, caller, err := (auth.Internal{Keys: keys, Now: time.Now}).Verify(got, nil)
		if err != nil || caller != ask.Caller {
			t.Errorf("%+v %v", caller, err)
		}
		log := ask.Log
		if want := (auth.Peer{Protocol: auth.Protocol, Topic: log.Topic, TopicID: log.TopicID, Generation: log.Generation, Partitions: log.Partitions, Nodes: 1}); peer != want {
			t.Errorf("peer %+v, want %+v", peer, want)
		}
		for _, name := range []string{"Authorization", "Cookie", "Accept-Encoding", "X-Forwarded-For"} {
			if got.Header.Get(name) != "" {
				t.Errorf("%s: %s was sent", name, got.Header.Get(name))
			}
		}
	}
}

func TestHTTPNotModified(t *testing.T) {
	owner, _ := over(t, func(w http.ResponseWriter, _ *http.Request) {
		mark(w)
		w.Header().Set("ETag", `W/"v"`)
		w.WriteHeader(http.StatusNotModified)
	})
	answer, err := owner.Pull(context.Background(), askFor("m1"))
	if err != nil || answer.Status != 304 || len(answer.Body) != 0 || answer.Header.Get("ETag") != `W/"v"` {
		t.Errorf("%+v %v", answer, err)
	}
}

func TestHTTPStatus(t *testing.T) {
	want := goodStatus(1, 2)
	want.Owned[0].Error = "an error with \"quotes\""
	owner, _ := over(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != protocol.StatusPath {
			t.Errorf("asked for %s", r.URL.Path)
		}
		mark(w)
		if err := json.MarshalWrite(w, want); err != nil {
			t.Error(err)
		}
	})
	got, err := owner.Status(context.Background())
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v %v", got, err)
	}
}

// TestHTTPNotAnAnswer: nothing that a projector did not mark reaches a client.
func TestHTTPNotAnAnswer(t *testing.T) {
	for name, k := range map[string]struct {
		handler http.HandlerFunc
		is      error
		says    string
	}{
		"a page":          {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") }, errNotAnswer, "status 200"},
		"a redirect":      {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) }, errNotAnswer, "status 302"},
		"not found":       {http.NotFound, errNotAnswer, "status 404"},
		"a refused peer":  {refuse(421, "wrong_peer", "refused peer: topic"), errRefused, "refused peer: topic"},
		"a bad signature": {refuse(401, "invalid_token", "give both the same secret file"), errRefused, "give both the same secret file"},
		"overloaded":      {refuse(503, "overloaded", "too many"), errRefused, "503, overloaded"},
		"too large":       {func(w http.ResponseWriter, _ *http.Request) { mark(w); _, _ = w.Write(make([]byte, maxAnswer+1)) }, errNotAnswer, ""},
		"cut off": {func(w http.ResponseWriter, _ *http.Request) {
			mark(w)
			w.Header().Set("Content-Length", "9")
			_, _ = w.Write([]byte("x"))
		}, io.ErrUnexpectedEOF, ""},
		"reset":            {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, io.EOF, ""},
		"no status at all": {func(w http.ResponseWriter, _ *http.Request) { hijack(t, w, "hello\r\n\r\n") }, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			owner, _ := over(t, k.handler)
			answer, err := owner.Pull(context.Background(), askFor("m1"))
			if err == nil || k.is != nil && !errors.Is(err, k.is) || !strings.Contains(err.Error(), k.says) {
				t.Errorf("%+v %v", answer, err)
			}
			if _, err := owner.Status(context.Background()); err == nil {
				t.Error("a status was made of it")
			}
		})
	}
}

func refuse(status int, code, detail string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, `{"code":"`+code+`","detail":"`+detail+`"}`)
	}
}

func hijack(t *testing.T, w http.ResponseWriter, says string) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		t.Error(err)
		return
	}
	defer conn.Close() //nolint:errcheck // It is given up.
	_, _ = io.WriteString(conn, says)
}

func TestHTTPOutOfReach(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := "http://" + listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	owner, _ := at(t, address, "")
	if answer, err := owner.Pull(context.Background(), askFor("m1")); err == nil {
		t.Errorf("%+v", answer)
	}
}

func TestHTTPSlow(t *testing.T) {
	release := make(chan struct{})
	owner, _ := over(t, func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	})
	defer close(release)
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if answer, err := owner.Pull(ctx, askFor("m1")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%+v %v", answer, err)
	}
}

// TestHTTPKeptConnectionClosed: a projector that closes a connection just as a
// pull goes out on it is asked once more, on a new one.
func TestHTTPKeptConnectionClosed(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var connections, requests atomic.Int32
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			if connections.Add(1) == 1 {
				// The first answers one request, reads another, and is gone.
				answerOne(conn, &requests)
				_, _ = http.ReadRequest(bufio.NewReader(conn))
				requests.Add(1)
				_ = conn.Close()
				continue
			}
			answerOne(conn, &requests)
			_ = conn.Close()
		}
	}()
	owner, _ := at(t, "http://"+listener.Addr().String(), "")
	for i := range 2 {
		answer, err := owner.Pull(context.Background(), askFor("m1"))
		if err != nil || string(answer.Body) != "hi" {
			t.Errorf("pull %d: %+v %v", i, answer, err)
		}
	}
	if connections.Load() != 2 || requests.Load() != 3 {
		t.Errorf("%d requests on %d connections, want 3 on 2", requests.Load(), connections.Load())
	}
	if err := listener.Close(); err != nil {
		t.Error(err)
	}
	<-done
}

func answerOne(conn net.Conn, requests *atomic.Int32) {
	if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
		requests.Add(1)
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nSeenby-Answer: 1\r\nContent-Length: 2\r\n\r\nhi")
	}
}

func TestHTTPWithTLS(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		mark(w)
		_, _ = io.WriteString(w, "hi")
	}))
	defer server.Close()
	trusting, _ := at(t, server.URL, writeFile(t, certificatePEM(server)))
	if answer, err := trusting.Pull(context.Background(), askFor("m1")); err != nil || string(answer.Body) != "hi" {
		t.Errorf("%+v %v", answer, err)
	}
	strict, _ := at(t, server.URL, "")
	if answer, err := strict.Pull(context.Background(), askFor("m1")); err == nil {
		t.Errorf("a certificate that nobody vouches for was taken: %+v", answer)
	}
}

func certificatePEM(server *httptest.Server) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
}
