package server_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/seenby/seenby/services/contract"
	"github.com/seenby/seenby/services/server"
)

const page = "https://chat.example"

// bodies are routes that answer with a body of so many bytes.
func bodies(sizes map[string]int) (routes []server.Route) {
	for path, size := range sizes {
		body := bytes.Repeat([]byte("seenby "), size/7+1)[:size]
		routes = append(routes, server.Route{Method: http.MethodGet, Path: path, Handler: func(context.Context, *server.Request) (contract.Answer, *contract.Problem) {
			return contract.Answer{Status: 200, Header: http.Header{"Content-Type": {"application/json"}, "Etag": {`W/"v"`}}, Body: body}, nil
		}})
	}
	return routes
}

// raw sends a request, and leaves the answer as it is.
func raw(t *testing.T, client *http.Client, method, url string, header map[string]string) (*http.Response, []byte) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range header {
		r.Header.Set(name, value)
	}
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, body
}

func rawClient(t *testing.T, protocols *http.Protocols) *http.Client {
	transport := &http.Transport{DisableCompression: true, Protocols: protocols}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

func TestCORS(t *testing.T) {
	s := start(t, bodies(map[string]int{"/v1/a": 10}), func(c *server.Config) { c.Origins, c.UserRate, c.UserBurst = []string{page}, 0.001, 2 })
	client, url := rawClient(t, nil), "http://"+s.Addr().String()
	const exposed = "ETag,Seenby-Position,Seenby-Lag-Ms,Seenby-Poll,Retry-After,WWW-Authenticate"
	for range 5 { // Preflights are not counted.
		resp, _ := raw(t, client, http.MethodOptions, url+"/v1/a", map[string]string{
			"Origin": page, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"})
		h := resp.Header
		if resp.StatusCode != 204 || h.Get("Access-Control-Allow-Origin") != page || !strings.Contains(h.Get("Access-Control-Allow-Methods"), "POST") ||
			h.Get("Access-Control-Allow-Headers") != "Authorization,Content-Type,If-None-Match" || h.Get("Access-Control-Max-Age") != "7200" ||
			h.Get("Access-Control-Allow-Credentials") != "" || !strings.Contains(strings.Join(h.Values("Vary"), ","), "Origin") {
			t.Fatalf("preflight: %d %v", resp.StatusCode, h)
		}
	}
	for _, k := range []struct {
		name, path, token string
		status            int
	}{
		{"an answer", "/v1/a", "user", 200}, {"again", "/v1/a", "user", 200}, {"429", "/v1/a", "user", 429},
		{"401", "/v1/a", "", 401}, {"404", "/v1/nothing", "backend", 404}, {"health", "/livez", "", 200},
	} {
		for _, origin := range []string{page, "https://evil.example"} {
			if origin != page && k.status == 200 && k.token == "user" {
				continue // It would use the rate up.
			}
			resp, _ := raw(t, client, http.MethodGet, url+k.path, map[string]string{"Origin": origin, "Authorization": k.token})
			h := resp.Header
			allowed := ""
			if origin == page {
				allowed = page
			}
			if resp.StatusCode != k.status || h.Get("Access-Control-Allow-Origin") != allowed {
				t.Errorf("%s from %s: %d %v", k.name, origin, resp.StatusCode, h)
			}
			if allowed != "" && h.Get("Access-Control-Expose-Headers") != exposed {
				t.Errorf("%s exposes %q", k.name, h.Get("Access-Control-Expose-Headers"))
			}
			if strings.HasPrefix(k.path, "/v1") && (h.Get("Vary") != "Origin, Accept-Encoding" || h.Get("Cache-Control") != "no-store") {
				t.Errorf("%s: %v", k.name, h)
			}
		}
	}
	resp, _ := raw(t, client, http.MethodPut, url+"/v1/a", map[string]string{"Origin": page, "Authorization": "backend"})
	if resp.StatusCode != 405 || resp.Header.Get("Access-Control-Allow-Origin") != page {
		t.Errorf("405: %d %v", resp.StatusCode, resp.Header)
	}
	if resp, _ := raw(t, client, http.MethodGet, url+"/v1/a", map[string]string{"Authorization": "backend"}); len(resp.Header.Values("Access-Control-Allow-Origin")) > 0 {
		t.Errorf("without Origin: %v", resp.Header)
	}
	anyone := start(t, bodies(map[string]int{"/v1/a": 10}), func(c *server.Config) { c.Origins = []string{"*"} })
	if resp, _ := raw(t, client, http.MethodGet, "http://"+anyone.Addr().String()+"/v1/a", map[string]string{"Origin": "null", "Authorization": "user"}); resp.Header.Get("Access-Control-Allow-Origin") != "*" {
		t.Errorf("any origin: %v", resp.Header)
	}
	none := start(t, bodies(map[string]int{"/v1/a": 10}), nil)
	resp, _ = raw(t, client, http.MethodOptions, "http://"+none.Addr().String()+"/v1/a", map[string]string{"Origin": page, "Access-Control-Request-Method": "GET"})
	if resp.StatusCode != 405 || len(resp.Header.Values("Access-Control-Allow-Origin")) > 0 {
		t.Errorf("without origins: %d %v", resp.StatusCode, resp.Header)
	}
	for _, origin := range []string{"chat.example", "https://chat.example/", "https://chat.example/a", "ftp://a", "https://u@a", ""} {
		if _, err := server.New(server.Config{Listen: "127.0.0.1:0", Origins: []string{origin}}); err == nil {
			t.Errorf("the origin %q is accepted", origin)
		}
	}
}

func TestCompression(t *testing.T) {
	s := start(t, bodies(map[string]int{"/v1/short": 2047, "/v1/long": 200_000}), nil)
	client, url := rawClient(t, nil), "http://"+s.Addr().String()
	for accept, packed := range map[string]bool{
		"": false, "gzip": true, "GZIP": true, "br, gzip;q=0.5": true, "*": true, "br, *;q=0.1": true, "x-gzip": true, "gzip;Q=1": true,
		"gzip;q=0": false, "gzip; q=0.000": false, "*;q=0": false, "*, gzip;q=0": false, "br": false, "identity": false, "gzip;q=x": false, "gzipped": false,
	} {
		for range 2 { // What compresses is used again.
			header := map[string]string{"Authorization": "backend"}
			if accept != "" {
				header["Accept-Encoding"] = accept
			}
			resp, body := raw(t, client, http.MethodGet, url+"/v1/long", header)
			if got := resp.Header.Get("Content-Encoding") == "gzip"; got != packed {
				t.Fatalf("Accept-Encoding: %s: packed %t", accept, got)
			}
			if packed {
				r, err := gzip.NewReader(bytes.NewReader(body))
				if err != nil {
					t.Fatal(err)
				}
				if body, err = io.ReadAll(r); err != nil {
					t.Fatal(err)
				}
			}
			if len(body) != 200_000 || !bytes.HasPrefix(body, []byte("seenby seenby")) || resp.Header.Get("ETag") != `W/"v"` {
				t.Errorf("Accept-Encoding: %s: %d bytes, %v", accept, len(body), resp.Header)
			}
			if resp, body := raw(t, client, http.MethodGet, url+"/v1/short", header); len(body) != 2047 || resp.Header.Get("Content-Encoding") != "" {
				t.Errorf("short: %d bytes, %v", len(body), resp.Header)
			}
		}
	}
}

// TestHTTP2WithoutTLS: a client that begins with HTTP/2 gets it, one that does not gets
// HTTP/1.1, and both are let go in peace.
func TestHTTP2WithoutTLS(t *testing.T) {
	s := start(t, append(echoRoutes(), bodies(map[string]int{"/v1/a": 10, "/v1/long": 1 << 20})...), nil)
	url := "http://" + s.Addr().String()
	only2 := new(http.Protocols)
	only2.SetUnencryptedHTTP2(true)
	for want, client := range map[int]*http.Client{1: rawClient(t, nil), 2: rawClient(t, only2)} {
		for _, k := range []struct {
			method, path, token string
			status, size        int
		}{{"GET", "/v1/a", "user", 200, 10}, {"GET", "/v1/long", "user", 200, 1 << 20}, {"GET", "/v1/a", "", 401, -1}, {"POST", "/v1/a", "user", 405, -1}} {
			resp, body := raw(t, client, k.method, url+k.path, map[string]string{"Authorization": k.token})
			if resp.ProtoMajor != want || resp.StatusCode != k.status || k.size >= 0 && len(body) != k.size {
				t.Errorf("HTTP/%d: %s %s: HTTP/%d %d, %d bytes", want, k.method, k.path, resp.ProtoMajor, resp.StatusCode, len(body))
			}
		}
		// A body that is too large, and one that is read.
		for size, status := range map[int]int{100: 200, 5000: 413} {
			r, _ := http.NewRequestWithContext(t.Context(), "POST", url+"/v1/echo", bytes.NewReader(make([]byte, size)))
			r.Header.Set("Authorization", "user")
			r.Header.Set("Content-Type", "application/json")
			resp, err := client.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
			if resp.StatusCode != status {
				t.Errorf("HTTP/%d: %d bytes: %d", want, size, resp.StatusCode)
			}
		}
	}
	begun := time.Now()
	if err := s.stop(); err != nil || time.Since(begun) > 10*time.Second {
		t.Errorf("stopped after %v: %v", time.Since(begun), err)
	}
}

func echoRoutes() []server.Route {
	return []server.Route{{Method: http.MethodPost, Path: "/v1/echo", MaxBody: 1000, Handler: func(_ context.Context, r *server.Request) (contract.Answer, *contract.Problem) {
		return contract.Answer{Status: 200, Header: http.Header{}, Body: r.Body}, nil
	}}}
}
