package auth

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/seenby/seenby/events"
	"github.com/seenby/seenby/services/contract"
)

const (
	// Protocol is the version of the protocol between query and projector that
	// this build speaks.
	Protocol = 2
	// InternalHeader carries the signature of an internal request, on one line:
	//
	//	protocol seconds topic-ID generation partitions nodes role topic subject mac
	//
	// Numbers are decimal, the topic ID is hex, role is "user" or "backend",
	// topic and subject are percent-encoded, and mac is base64url. The MAC is
	// HMAC-SHA256, under the internal secret, over the method, the request URI, the
	// SHA-256 of the body and all of the line before it. An empty topic or subject is
	// "-".
	InternalHeader = "Seenby-Internal"
)

var (
	// ErrUnsigned is wrapped by what [Internal.Verify] returns for a request
	// that is not signed, or not by one of the keys, or not now.
	ErrUnsigned = errors.New("not an authenticated internal request")
	// ErrPeer is what a [*PeerError] is.
	ErrPeer = errors.New("refused peer")
)

// Peer is what query and projector have to agree on before one may answer the
// other.
type Peer struct {
	// Protocol is the version of the protocol between them; Sign sends
	// [Protocol] whatever it is.
	Protocol   int
	Topic      string
	TopicID    [16]byte
	Generation uint32
	Partitions int32
	// Nodes is how many nodes make the copy.
	Nodes int
}

// PeerError says what a peer differs in. It wraps [ErrPeer].
type PeerError struct {
	// What differs: "protocol version", "topic", "topic ID", "generation",
	// "partitions" or "copy size".
	What string
	// Ours and Theirs are both values, as text.
	Ours, Theirs string
}

func (e *PeerError) Error() string {
	return fmt.Sprintf("refused peer: %s: it has %s, this process has %s", e.What, e.Theirs, e.Ours)
}

// Is says that every PeerError is an [ErrPeer].
func (*PeerError) Is(target error) bool { return target == ErrPeer }

// Check returns a [*PeerError] that names the first thing in which theirs
// differs, or nil.
func (p Peer) Check(theirs Peer) error {
	for _, c := range []struct{ what, ours, theirs string }{
		{"protocol version", strconv.Itoa(p.Protocol), strconv.Itoa(theirs.Protocol)},
		{"topic", p.Topic, theirs.Topic},
		{"topic ID", hex.EncodeToString(p.TopicID[:]), hex.EncodeToString(theirs.TopicID[:])},
		{"generation", fmt.Sprint(p.Generation), fmt.Sprint(theirs.Generation)},
		{"partitions", fmt.Sprint(p.Partitions), fmt.Sprint(theirs.Partitions)},
		{"copy size", strconv.Itoa(p.Nodes), strconv.Itoa(theirs.Nodes)},
	} {
		if c.ours != c.theirs {
			return &PeerError{What: c.what, Ours: c.ours, Theirs: c.theirs}
		}
	}
	return nil
}

// Internal signs the requests that a query process sends to a projector, and
// verifies them there. The secret itself never travels. A request holds for
// [Leeway] around its time; within that it may be sent again, which is harmless,
// as these requests change nothing. Its methods may be called concurrently.
type Internal struct {
	// Keys are the internal secret.
	Keys *Keys
	// Now is the clock.
	Now func() time.Time
}

// Sign signs r, whose method and URL must be final and whose body is given, on
// behalf of a caller; the zero Caller stands for the process itself.
func (i Internal) Sign(r *http.Request, body []byte, p Peer, caller contract.Caller) {
	role := "user"
	if caller.Backend {
		role = "backend"
	}
	line := fmt.Sprintf("%d %d %x %d %d %d %s %s %s", Protocol, i.Now().Unix(), p.TopicID, p.Generation, p.Partitions, p.Nodes,
		role, word(p.Topic), word(caller.Subject))
	mac := i.Keys.Sign(internalMessage(r.Method, r.URL.RequestURI(), line, body))
	r.Header.Set(InternalHeader, line+" "+keyEncoding.EncodeToString(mac))
}

// Verify tells which peer sent r with this body, and on whose behalf. The error wraps
// [ErrUnsigned], or is a [*PeerError] if the peer speaks another version of the
// protocol, which is told apart before the signature is looked at because its
// form may have changed with it. It is left to the caller to hold the peer to
// its own (see [Peer.Check]).
func (i Internal) Verify(r *http.Request, body []byte) (Peer, contract.Caller, error) {
	lines := r.Header.Values(InternalHeader)
	if len(lines) != 1 {
		return Peer{}, contract.Caller{}, fmt.Errorf("%w: it needs one %s header", ErrUnsigned, InternalHeader)
	}
	version, _, _ := strings.Cut(lines[0], " ")
	if n, err := strconv.Atoi(version); err == nil && n != Protocol {
		return Peer{}, contract.Caller{}, &PeerError{What: "protocol version", Ours: strconv.Itoa(Protocol), Theirs: strconv.Itoa(n)}
	}
	cut := strings.LastIndexByte(lines[0], ' ')
	if cut < 0 {
		return Peer{}, contract.Caller{}, fmt.Errorf("%w: the header is not whole", ErrUnsigned)
	}
	line := lines[0][:cut]
	mac, err := keyEncoding.DecodeString(lines[0][cut+1:])
	if err != nil || len(mac) != 32 || !i.Keys.Verify(internalMessage(r.Method, requestURI(r), line, body), mac) {
		return Peer{}, contract.Caller{}, fmt.Errorf("%w: it is signed by none of the keys: give both processes the same secret file", ErrUnsigned)
	}
	peer, caller, seconds, err := parseInternal(line)
	if err != nil {
		return Peer{}, contract.Caller{}, fmt.Errorf("%w: %w", ErrUnsigned, err)
	}
	if age := i.Now().Sub(time.Unix(seconds, 0)); age > Leeway || age < -Leeway {
		return Peer{}, contract.Caller{}, fmt.Errorf("%w: it was signed %v ago, at most %v is allowed: set the clocks", ErrUnsigned, age.Round(time.Second), Leeway)
	}
	return peer, caller, nil
}

// requestURI is what a server got, or what a client is about to send.
func requestURI(r *http.Request) string {
	if r.RequestURI != "" {
		return r.RequestURI
	}
	return r.URL.RequestURI()
}

func internalMessage(method, uri, line string, body []byte) []byte {
	sum := sha256.Sum256(body)
	// None of the parts can hold a line feed, but the sum, whose length is known.
	return append([]byte("seenby internal\n"+method+"\n"+uri+"\n"+line+"\n"), sum[:]...)
}

// word makes one word of s that is not empty.
func word(s string) string {
	if s == "" {
		return "-"
	}
	// An ID that is a lone dash would be taken for an empty one.
	if s == "-" {
		return "%2D"
	}
	return url.QueryEscape(s)
}

func unword(s string) (string, error) {
	if s == "-" {
		return "", nil
	}
	return url.QueryUnescape(s)
}

// parseInternal parses the line that was signed.
func parseInternal(line string) (p Peer, caller contract.Caller, seconds int64, err error) {
	words := strings.Split(line, " ")
	if len(words) != 9 {
		return p, caller, 0, fmt.Errorf("%d words, must be 9", len(words))
	}
	var errs [7]error
	var generation, partitions uint64
	p.Protocol, errs[0] = strconv.Atoi(words[0])
	seconds, errs[1] = strconv.ParseInt(words[1], 10, 64)
	errs[2] = decodeTopicID(&p.TopicID, words[2])
	generation, errs[3] = strconv.ParseUint(words[3], 10, 32)
	partitions, errs[4] = strconv.ParseUint(words[4], 10, 31)
	p.Nodes, errs[5] = strconv.Atoi(words[5])
	p.Generation, p.Partitions = uint32(generation), int32(partitions)
	caller.Backend = words[6] == "backend"
	if p.Topic, err = unword(words[7]); err != nil {
		return p, caller, 0, err
	}
	if caller.Subject, err = unword(words[8]); err != nil {
		return p, caller, 0, err
	}
	if caller != (contract.Caller{}) {
		errs[6] = events.CheckID(caller.Subject)
	}
	return p, caller, seconds, errors.Join(errs[:]...)
}

func decodeTopicID(to *[16]byte, s string) error {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(to) {
		return errors.New("the topic ID must be 16 bytes in hex")
	}
	copy(to[:], b)
	return nil
}
