package auth_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/seenby/seenby/services/auth"
	"github.com/seenby/seenby/services/contract"
)

var peer = auth.Peer{Protocol: auth.Protocol, Topic: "seenby-events", TopicID: [16]byte{1, 2, 15: 255}, Generation: 7, Partitions: 64, Nodes: 3}

func internalRequest(t *testing.T, method, url string) *http.Request {
	t.Helper()
	r, err := http.NewRequest(method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

const internalURL = "http://node/internal/v1/messages/a%2Fb/receipts?limit=3"

func TestInternalRequests(t *testing.T) {
	keys := openKeys(t, keyA, keyB)
	now := &clock{now: noon}
	query, projector := auth.Internal{Keys: keys, Now: now.Now}, auth.Internal{Keys: openKeys(t, keyB, keyA), Now: now.Now}
	for _, caller := range []contract.Caller{{}, {Subject: "alice"}, {Subject: "chat", Backend: true}, {Subject: "a b/😀%2B+"}, {Subject: "-"}} {
		r := internalRequest(t, "GET", internalURL)
		query.Sign(r, nil, peer, caller)
		gotPeer, gotCaller, err := projector.Verify(r, nil)
		if err != nil || gotPeer != peer || gotCaller != caller {
			t.Errorf("%+v: got %+v, %+v, %v", caller, gotPeer, gotCaller, err)
		}
		if err := peer.Check(gotPeer); err != nil {
			t.Error(err)
		}
	}
	// A process that knows no peer yet.
	r := internalRequest(t, "GET", "http://node/internal/v1/status")
	query.Sign(r, nil, auth.Peer{Nodes: 3}, contract.Caller{})
	if got, _, err := projector.Verify(r, nil); err != nil || got != (auth.Peer{Protocol: auth.Protocol, Nodes: 3}) {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestForgedInternalRequests(t *testing.T) {
	now := &clock{now: noon}
	signer := auth.Internal{Keys: openKeys(t, keyA), Now: now.Now}
	signed := func() *http.Request {
		r := internalRequest(t, "GET", internalURL)
		signer.Sign(r, nil, peer, contract.Caller{Subject: "alice"})
		return r
	}
	header := signed().Header.Get(auth.InternalHeader)
	if strings.Contains(header, keyA) {
		t.Error("the secret travels")
	}
	edit := func(from, to string) func(*http.Request) {
		return func(r *http.Request) {
			if !strings.Contains(header, from) {
				t.Fatalf("%q has no %q", header, from)
			}
			r.Header.Set(auth.InternalHeader, strings.Replace(header, from, to, 1))
		}
	}
	for name, forge := range map[string]func(*http.Request){
		"no header":    func(r *http.Request) { r.Header.Del(auth.InternalHeader) },
		"empty header": func(r *http.Request) { r.Header.Set(auth.InternalHeader, "") },
		"two headers":  func(r *http.Request) { r.Header.Add(auth.InternalHeader, header) },
		"method":       func(r *http.Request) { r.Method = "DELETE" },
		"path": func(r *http.Request) {
			*r = *internalRequest(t, "GET", strings.Replace(internalURL, "a%2Fb", "a%2Fc", 1))
			r.Header.Set(auth.InternalHeader, header)
		},
		"query":           func(r *http.Request) { r.URL.RawQuery = "limit=4" },
		"received path":   func(r *http.Request) { r.RequestURI = "/internal/v1/messages/x/receipts?limit=3" },
		"caller":          edit(" alice ", " bobby "),
		"role":            edit(" user ", " backend "),
		"topic":           edit(" seenby-events ", " seenby-other "),
		"generation":      edit(" 7 ", " 8 "),
		"partitions":      edit(" 64 ", " 65 "),
		"copy size":       edit(" 3 ", " 4 "),
		"topic ID":        edit(" 0102", " 0103"),
		"a word more":     edit(" alice ", " alice x "),
		"a word less":     edit(" alice ", " "),
		"no MAC":          func(r *http.Request) { r.Header.Set(auth.InternalHeader, header[:strings.LastIndexByte(header, ' ')]) },
		"MAC cut off":     func(r *http.Request) { r.Header.Set(auth.InternalHeader, header[:len(header)-20]) },
		"a word alone":    func(r *http.Request) { r.Header.Set(auth.InternalHeader, "2") },
		"version no more": edit("2 ", "x "),
	} {
		r := signed()
		forge(r)
		if _, _, err := signer.Verify(r, nil); !errors.Is(err, auth.ErrUnsigned) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if _, _, err := (auth.Internal{Keys: openKeys(t, keyB), Now: now.Now}).Verify(signed(), nil); !errors.Is(err, auth.ErrUnsigned) {
		t.Errorf("another secret: got %v", err)
	}
	for age, good := range map[time.Duration]bool{auth.Leeway: true, -auth.Leeway: true, auth.Leeway + time.Second: false, -auth.Leeway - time.Second: false} {
		now.set(noon)
		r := signed()
		now.set(noon.Add(age))
		if _, _, err := signer.Verify(r, nil); errors.Is(err, auth.ErrUnsigned) == good {
			t.Errorf("%v old: got %v", age, err)
		}
	}
}

func TestPeersThatDiffer(t *testing.T) {
	for what, change := range map[string]func(*auth.Peer){
		"protocol version": func(p *auth.Peer) { p.Protocol++ },
		"topic":            func(p *auth.Peer) { p.Topic = "other" },
		"topic ID":         func(p *auth.Peer) { p.TopicID[15]++ },
		"generation":       func(p *auth.Peer) { p.Generation++ },
		"partitions":       func(p *auth.Peer) { p.Partitions++ },
		"copy size":        func(p *auth.Peer) { p.Nodes++ },
	} {
		theirs := peer
		change(&theirs)
		err := peer.Check(theirs)
		var differs *auth.PeerError
		if !errors.As(err, &differs) || differs.What != what || !errors.Is(err, auth.ErrPeer) {
			t.Errorf("%s: got %v", what, err)
		}
	}
}

func TestInternalBody(t *testing.T) {
	internal := auth.Internal{Keys: openKeys(t, keyA), Now: func() time.Time { return noon }}
	r := internalRequest(t, "POST", internalURL)
	internal.Sign(r, []byte("this"), peer, contract.Caller{Subject: "alice"})
	if _, _, err := internal.Verify(r, []byte("this")); err != nil {
		t.Error(err)
	}
	for _, body := range []string{"", "that"} {
		if _, _, err := internal.Verify(r, []byte(body)); !errors.Is(err, auth.ErrUnsigned) {
			t.Errorf("%q: got %v", body, err)
		}
	}
}

// Another version of the protocol may be signed in another way.
func TestPeerOfAnotherProtocol(t *testing.T) {
	internal := auth.Internal{Keys: openKeys(t, keyA), Now: func() time.Time { return noon }}
	r := internalRequest(t, "GET", internalURL)
	r.Header.Set(auth.InternalHeader, "1 in another way")
	var differs *auth.PeerError
	if _, _, err := internal.Verify(r, nil); !errors.As(err, &differs) || differs.What != "protocol version" || differs.Theirs != "1" {
		t.Errorf("got %v", err)
	}
}
