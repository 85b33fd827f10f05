package auth_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/seenby/seenby/services/auth"
	"github.com/seenby/seenby/services/contract"
)

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// pair is a key pair, and its public half as a JWK.
type pair struct {
	method  jwt.SigningMethod
	private crypto.PrivateKey
	jwk     map[string]any
}

func rsaPair(t testing.TB, bits int) pair {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Skipf("this Go makes no RSA key of %d bits: %v", bits, err)
	}
	return pair{jwt.SigningMethodRS256, k, map[string]any{"kty": "RSA", "n": b64(k.N.Bytes()), "e": b64(big.NewInt(int64(k.E)).Bytes())}}
}

func ecPair(curve elliptic.Curve, name string, method jwt.SigningMethod) pair {
	k, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		panic(err)
	}
	point, err := k.PublicKey.Bytes()
	if err != nil {
		panic(err)
	}
	half := (len(point) - 1) / 2
	return pair{method, k, map[string]any{"kty": "EC", "crv": name, "x": b64(point[1 : 1+half]), "y": b64(point[1+half:])}}
}

func edPair() pair {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic(err)
	}
	return pair{jwt.SigningMethodEdDSA, private, map[string]any{"kty": "OKP", "crv": "Ed25519", "x": b64(public)}}
}

// with returns the JWK with more members, such as a kid.
func (p pair) with(members ...string) map[string]any {
	k := map[string]any{}
	for name, value := range p.jwk {
		k[name] = value
	}
	for i := 0; i < len(members); i += 2 {
		k[members[i]] = members[i+1]
	}
	return k
}

func (p pair) token(id string) string {
	t := jwt.NewWithClaims(p.method, jwt.MapClaims{"sub": "alice", "exp": noon.Add(time.Hour).Unix()})
	if id != "" {
		t.Header["kid"] = id
	}
	signed, err := t.SignedString(p.private)
	if err != nil {
		panic(err)
	}
	return signed
}

func setOf(keys ...map[string]any) []byte {
	b, err := json.Marshal(map[string]any{"keys": keys})
	if err != nil {
		panic(err)
	}
	return b
}

func openSet(t *testing.T, content []byte) *auth.JWKS {
	t.Helper()
	path := filepath.Join(t.TempDir(), "jwks.json")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	set, err := auth.OpenJWKSFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func TestPublicKeys(t *testing.T) {
	r, e, d := rsaPair(t, 2048), ecPair(elliptic.P256(), "P-256", jwt.SigningMethodES256), edPair()
	other := edPair()
	e384 := ecPair(elliptic.P384(), "P-384", jwt.SigningMethodES384)
	set := openSet(t, setOf(r.with("kid", "r", "use", "sig", "alg", "RS256"), e.with("kid", "e"), d.with("kid", "d"), e384.with("kid", "e384"),
		map[string]any{"kty": "oct", "k": keyA, "kid": "secret"}, map[string]any{"kty": "new"}))
	if set.Len() != 3 {
		t.Errorf("%d keys", set.Len())
	}
	v := newVerifier(t, auth.VerifierConfig{JWKS: set, Now: func() time.Time { return noon }})
	alice := contract.Caller{Subject: "alice"}
	// Whoever takes a public key for a secret lets everybody in.
	confused := func(secret string) string {
		return token(`{"alg":"HS256","kid":"r"}`, fmt.Sprintf(`{"sub":"alice","exp":%d}`, noon.Add(time.Hour).Unix()), secret)
	}
	ps := r
	ps.method = jwt.SigningMethodPS256
	for name, k := range map[string]struct {
		token string
		want  contract.Caller
		code  contract.Code
	}{
		"RS256":                     {r.token("r"), alice, ""},
		"ES256":                     {e.token("e"), alice, ""},
		"EdDSA":                     {d.token("d"), alice, ""},
		"without kid":               {e.token(""), alice, ""},
		"another's kid":             {d.token("e"), contract.Caller{}, "invalid_token"},
		"unknown kid":               {d.token("x"), contract.Caller{}, "invalid_token"},
		"another key":               {other.token("d"), contract.Caller{}, "invalid_token"},
		"another key without kid":   {other.token(""), contract.Caller{}, "invalid_token"},
		"PS256":                     {ps.token("r"), contract.Caller{}, "invalid_token"},
		"ES384":                     {e384.token("e384"), contract.Caller{}, "invalid_token"},
		"HS256 by the public key":   {confused(r.jwk["n"].(string)), contract.Caller{}, "invalid_token"},
		"HS256 by a key of the set": {confused(keyA), contract.Caller{}, "invalid_token"},
		"none":                      {unsigned(`{"alg":"none"}`, `{"sub":"alice","exp":9999999999}`), contract.Caller{}, "invalid_token"},
	} {
		t.Run(name, func(t *testing.T) {
			for range 2 {
				check(t, v, k.token, k.want, k.code)
			}
		})
	}
	both := newVerifier(t, auth.VerifierConfig{Keys: openKeys(t, keyA), JWKS: set, Now: func() time.Time { return noon }})
	check(t, both, confused(keyA), alice, "")
	check(t, both, r.token("r"), alice, "")
	check(t, both, confused(r.jwk["n"].(string)), contract.Caller{}, "invalid_token")
	hmacOnly := newVerifier(t, auth.VerifierConfig{Keys: openKeys(t, keyA), Now: func() time.Time { return noon }})
	check(t, hmacOnly, r.token("r"), contract.Caller{}, "invalid_token")
}

func TestBadKeySets(t *testing.T) {
	d, e := edPair(), ecPair(elliptic.P256(), "P-256", jwt.SigningMethodES256)
	for name, k := range map[string]struct {
		content []byte
		want    string
	}{
		"empty":                 {nil, "not a JSON object"},
		"no object":             {[]byte(`[]`), "not a JSON object"},
		"no keys":               {[]byte(`{}`), "0 keys"},
		"secrets alone":         {setOf(map[string]any{"kty": "oct", "k": keyA}), "1 keys, and none"},
		"encryption":            {setOf(d.with("use", "enc")), "none for"},
		"another algorithm":     {setOf(e.with("alg", "ES384")), "none for"},
		"a private key":         {setOf(d.jwk, d.with("d", "AAAA")), "key 1: is a private key"},
		"a point off the curve": {setOf(e.with("x", "AAAA")), "none for"},
		"too long":              {append(setOf(d.jwk), make([]byte, auth.MaxKeySet)...), "over"},
		"too many keys":         {setOf(make([]map[string]any, auth.MaxKeySetKeys+1)...), "at most 100"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "jwks.json")
			if err := os.WriteFile(path, k.content, 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := auth.OpenJWKSFile(path); err == nil || !strings.Contains(err.Error(), k.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("got %v", err)
			}
		})
	}
	for _, address := range []string{"http://idp.example/jwks", "file:///etc/passwd", "https://", "https://u:p@idp.example/", "::"} {
		if _, err := auth.OpenJWKS(address); err == nil {
			t.Errorf("%s is accepted", address)
		}
	}
	short := rsaPair(t, 1024)
	if set := openSet(t, setOf(d.jwk, short.jwk)); set.Len() != 1 {
		t.Error("a short RSA key counts")
	}
}

// idp serves a key set, or what a test makes of it.
type idp struct {
	*httptest.Server
	mu      sync.Mutex
	handler http.HandlerFunc
	asked   atomic.Int64
}

func newIDP(t *testing.T) *idp {
	p := new(idp)
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.asked.Add(1)
		p.mu.Lock()
		h := p.handler
		p.mu.Unlock()
		h(w, r)
	}))
	t.Cleanup(p.Close)
	return p
}

func (p *idp) serve(content []byte) {
	p.does(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(content) })
}

func (p *idp) does(h http.HandlerFunc) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.handler = h
}

func runSet(t *testing.T, set *auth.JWKS) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		set.Run(ctx, slog.New(slog.DiscardHandler))
	}()
	t.Cleanup(func() { cancel(); <-done })
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("waited in vain for: %s", what)
		case <-tick.C:
		}
	}
}

// TestKeySetByURL: keys rotate without a restart, a source that is down leaves the old
// ones, and made-up key IDs do not make us ask again and again.
func TestKeySetByURL(t *testing.T) {
	a, b, c := edPair(), ecPair(elliptic.P256(), "P-256", jwt.SigningMethodES256), edPair()
	provider := newIDP(t)
	provider.does(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusBadGateway) })
	set, err := auth.OpenJWKS(provider.URL)
	if err != nil {
		t.Fatal(err)
	}
	now := &clock{now: time.Now()}
	set.Hurry(20*time.Millisecond, time.Minute, now.Now)
	v := newVerifier(t, auth.VerifierConfig{JWKS: set, Now: func() time.Time { return noon }})
	if err := v.Ready(); err == nil {
		t.Error("ready without keys")
	}
	runSet(t, set)
	eventually(t, "the failure", func() bool { return set.Err() != nil })
	if err := v.Ready(); err == nil || !strings.Contains(err.Error(), "502") {
		t.Errorf("not ready because: %v", err)
	}
	alice := contract.Caller{Subject: "alice"}
	check(t, v, a.token("a"), contract.Caller{}, "invalid_token")
	provider.serve(setOf(a.with("kid", "a")))
	eventually(t, "the keys", func() bool { return v.Ready() == nil && set.Err() == nil })
	check(t, v, a.token("a"), alice, "")

	// It is fetched often: a rotated key is found, and a removed one does not verify.
	provider.serve(setOf(b.with("kid", "b")))
	eventually(t, "the next key", func() bool { _, p := v.Verify(context.Background(), b.token("b")); return p == nil })
	check(t, v, a.token("a"), contract.Caller{}, "invalid_token")
	for name, h := range map[string]http.HandlerFunc{
		"garbage": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) },
		"huge":    func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 1<<20)) },
		"500":     func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) },
		"cut off": func(w http.ResponseWriter, _ *http.Request) { panic(http.ErrAbortHandler) },
		"redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://elsewhere.example/", http.StatusFound)
		},
	} {
		t.Run(name, func(t *testing.T) {
			provider.serve(setOf(b.with("kid", "b")))
			eventually(t, "it to be well", func() bool { return set.Err() == nil })
			provider.does(h)
			eventually(t, "the failure", func() bool { return set.Err() != nil })
			check(t, v, b.token("b"), alice, "")
		})
	}
	provider.serve(setOf(c.with("kid", "c")))
	eventually(t, "the last key", func() bool { _, p := v.Verify(context.Background(), c.token("c")); return p == nil })
}

// TestUnknownKey: a token of a key that is new has the set fetched, once.
func TestUnknownKey(t *testing.T) {
	a, b := edPair(), edPair()
	provider := newIDP(t)
	provider.serve(setOf(a.with("kid", "a")))
	set, err := auth.OpenJWKS(provider.URL)
	if err != nil {
		t.Fatal(err)
	}
	now := &clock{now: time.Now()}
	set.Hurry(time.Hour, time.Minute, now.Now)
	v := newVerifier(t, auth.VerifierConfig{JWKS: set, Now: func() time.Time { return noon }})
	runSet(t, set)
	eventually(t, "the keys", func() bool { return v.Ready() == nil })
	provider.serve(setOf(a.with("kid", "a"), b.with("kid", "b")))
	for range 50 {
		check(t, v, b.token("b"), contract.Caller{}, "invalid_token") // too soon to ask again
	}
	if n := provider.asked.Load(); n != 1 {
		t.Errorf("asked %d times", n)
	}
	now.set(now.Now().Add(time.Minute))
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if _, problem := v.Verify(context.Background(), b.token("b")); problem != nil {
				t.Error(problem)
			}
		})
	}
	wg.Wait()
	for i := range 50 {
		check(t, v, b.token(fmt.Sprint("made up ", i)), contract.Caller{}, "invalid_token")
	}
	if n := provider.asked.Load(); n != 2 {
		t.Errorf("asked %d times", n)
	}
}

func TestKeySetFileIsReadAgain(t *testing.T) {
	a, b := edPair(), edPair()
	path := filepath.Join(t.TempDir(), "jwks.json")
	write := func(content []byte) {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(setOf(a.jwk))
	set, err := auth.OpenJWKSFile(path)
	if err != nil {
		t.Fatal(err)
	}
	v := newVerifier(t, auth.VerifierConfig{JWKS: set, Now: func() time.Time { return noon }})
	runSet(t, set)
	check(t, v, a.token(""), contract.Caller{Subject: "alice"}, "")
	write(setOf(b.jwk))
	eventually(t, "the next key", func() bool { _, p := v.Verify(context.Background(), b.token("")); return p == nil })
	check(t, v, a.token(""), contract.Caller{}, "invalid_token")
	write([]byte("{"))
	eventually(t, "the failure", func() bool { return set.Err() != nil })
	check(t, v, b.token(""), contract.Caller{Subject: "alice"}, "")
}

func FuzzParseKeySet(f *testing.F) {
	f.Add(setOf(edPair().jwk, ecPair(elliptic.P256(), "P-256", jwt.SigningMethodES256).with("kid", "e", "use", "sig")))
	f.Add([]byte(`{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"},{"kty":"oct"},null,7]}`))
	f.Fuzz(func(t *testing.T, content []byte) {
		if n, err := auth.ParseKeySet(content); err == nil && n == 0 {
			t.Error("no keys, and no error")
		}
	})
}
