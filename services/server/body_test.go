package server_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/seenby/seenby/services/contract"
	"github.com/seenby/seenby/services/server"
)

func TestMediaTypes(t *testing.T) {
	s := start(t, table, nil)
	for header, good := range map[string]bool{
		"Content-Type: application/json":                               true,
		"Content-Type: Application/JSON":                               true,
		"Content-Type: application/json; charset=utf-8":                true,
		"Content-Type: application/json;charset=\"UTF-8\"":             true,
		"Content-Type: application/json; odata=verbose":                true,
		"Content-Type: application/json\r\nContent-Encoding: identity": true,
		"X: y":                                                       false,
		"Content-Type:":                                              false,
		"Content-Type: text/json":                                    false,
		"Content-Type: application/jsonp":                            false,
		"Content-Type: application/problem+json":                     false,
		"Content-Type: application/x-www-form-urlencoded":            false,
		"Content-Type: application/json; charset=utf-16":             false,
		"Content-Type: application/json; charset":                    false,
		"Content-Type: application/json, text/plain":                 false,
		"Content-Type: application/json\r\nContent-Type: text/plain": false,
		"Content-Type: application/json\r\nContent-Encoding: gzip":   false,
		"Content-Type: application/json\r\nContent-Encoding: identity\r\nContent-Encoding: br": false,
	} {
		got := s.raw(t, "POST /v1/receipts HTTP/1.1\r\nHost: x\r\nAuthorization: user\r\n"+header+"\r\nContent-Length: 2\r\n\r\n{}")
		if good && got.body != "{}" || !good && got.code(t) != contract.UnsupportedMediaType {
			t.Errorf("%q: got %d %s", header, got.status, got.body)
		}
	}
}

const post = "POST /v1/receipts HTTP/1.1\r\nHost: x\r\nAuthorization: user\r\nContent-Type: application/json\r\n"

func TestBodySizes(t *testing.T) {
	s := start(t, table, nil)
	for n, good := range map[int]bool{0: true, 1: true, 9: true, 10: true, 11: false, 100_000: false} {
		body := strings.Repeat("x", n)
		for form, rest := range map[string]string{
			"length":  fmt.Sprintf("Content-Length: %d\r\n\r\n%s", n, body),
			"chunked": "Transfer-Encoding: chunked\r\n\r\n" + chunks(body) + "0\r\n\r\n",
		} {
			got := s.raw(t, post+rest)
			if good && (got.status != 200 || got.body != body) || !good && got.code(t) != contract.BodyTooLarge {
				t.Errorf("%d bytes, %s: got %d %s", n, form, got.status, got.body)
			}
		}
	}
}

func chunks(s string) string {
	var b strings.Builder
	for len(s) > 0 {
		n := min(len(s), 7)
		fmt.Fprintf(&b, "%x\r\n%s\r\n", n, s[:n])
		s = s[n:]
	}
	return b.String()
}

// A body that is too large by its own account is refused before it is sent.
func TestAnnouncedBodyIsNotAwaited(t *testing.T) {
	s := start(t, table, nil)
	for _, rest := range []string{"Content-Length: 1000000\r\n\r\n", "Content-Length: 1000000\r\nExpect: 100-continue\r\n\r\n"} {
		if got := s.raw(t, post+rest); got.code(t) != contract.BodyTooLarge {
			t.Errorf("got %d %s", got.status, got.body)
		}
	}
	// Nor is one that nobody may send.
	if got := s.raw(t, "POST /v1/receipts HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"); got.code(t) != contract.NoToken {
		t.Errorf("got %d %s", got.status, got.body)
	}
}

// Most clients send all of a body before they look for an answer. They get it,
// although the body is more than the sockets' buffers hold and nobody wants it.
func TestAnswerToWhoSendsFirst(t *testing.T) {
	s := start(t, table, nil)
	rest := fmt.Sprintf("Content-Length: %d\r\n\r\n%s", 12<<20, strings.Repeat("x", 12<<20))
	for request, want := range map[string]contract.Code{
		post: contract.BodyTooLarge,
		strings.Replace(post, "user", "nobody", 1):           contract.InvalidToken,
		strings.Replace(post, "application/json", "x/y", 1):  contract.UnsupportedMediaType,
		strings.Replace(post, "/v1/receipts", "/no/such", 1): contract.NoSuchRoute,
		strings.Replace(post, "POST", "PATCH", 1):            contract.MethodNotAllowed,
	} {
		if got := s.raw(t, request+rest); got.code(t) != want {
			t.Errorf("got %d %s, want %s", got.status, got.body, want)
		}
	}
}

func TestBodyThatEndsTooEarly(t *testing.T) {
	s := start(t, table, nil)
	conn, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, post+"Content-Length: 10\r\n\r\nabc"); err != nil {
		t.Fatal(err)
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got := read(t, bufio.NewReader(conn), "POST"); got.code(t) != contract.BadJSON {
		t.Errorf("got %d %s", got.status, got.body)
	}
	if got := s.raw(t, post+"Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\nzz"); got.code(t) != contract.BadJSON {
		t.Errorf("broken chunks: got %d %s", got.status, got.body)
	}
}

func TestSlowBody(t *testing.T) {
	s := start(t, table, func(c *server.Config) { c.ReadTimeout = 500 * time.Millisecond })
	if got := s.raw(t, post+"Content-Length: 10\r\n\r\nabc"); got.code(t) != contract.Timeout {
		t.Errorf("got %d %s", got.status, got.body)
	}
}

func TestSlowHeaders(t *testing.T) {
	s := start(t, table, func(c *server.Config) { c.ReadHeaderTimeout, c.ReadTimeout = 20*time.Millisecond, time.Hour })
	conn, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET /livez HTTP/1.1\r\nHost: x\r\nX: "); err != nil {
		t.Fatal(err)
	}
	// What comes back ends: the server does not wait for the rest.
	if err := conn.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(conn); err != nil {
		t.Fatal(err)
	}
}

func TestLargeHeaders(t *testing.T) {
	s := start(t, table, nil)
	header := func(n int) result {
		return s.raw(t, "GET /v1/messages/a/receipts HTTP/1.1\r\nHost: x\r\nAuthorization: user\r\nX: "+strings.Repeat("x", n)+"\r\n\r\n")
	}
	if got := header(60 << 10); got.status != 200 {
		t.Errorf("got %d %s", got.status, got.body)
	}
	if got := header(70 << 10); got.status != 431 {
		t.Errorf("got %d %s", got.status, got.body)
	}
}

// One connection serves request after request, refused ones included.
func TestKeepAlive(t *testing.T) {
	s := start(t, table, nil)
	conn, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	from := bufio.NewReader(conn)
	for i, want := range []int{200, 413, 401, 404, 200} {
		request := post + "Content-Length: 2\r\n\r\n{}"
		switch want {
		case 413:
			request = post + "Content-Length: 11\r\n\r\n12345678901"
		case 401:
			request = strings.Replace(request, "user", "x", 1)
		case 404:
			request = strings.Replace(request, "/v1/receipts", "/x", 1)
		}
		if _, err := io.WriteString(conn, request); err != nil {
			t.Fatal(err)
		}
		if got := read(t, from, "POST"); got.status != want {
			t.Errorf("%d: got %d %s", i, got.status, got.body)
		}
	}
}
