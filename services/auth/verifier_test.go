package auth_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/seenby/seenby/services/auth"
	"github.com/seenby/seenby/services/contract"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// clock is one that tests move.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) set(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = now
}

func newVerifier(t *testing.T, c auth.VerifierConfig) *auth.Verifier {
	t.Helper()
	c.Leeway = auth.Leeway
	v, err := auth.NewVerifier(c)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// token signs a header and claims as they are.
func token(header, claims, key string) string {
	text := base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString([]byte(claims))
	secret, err := base64.RawURLEncoding.DecodeString(key)
	if err != nil {
		panic(err)
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(contract.Sum(secret, []byte(text)))
}

const hs256 = `{"alg":"HS256","typ":"JWT"}`

func TestVerify(t *testing.T) {
	in := func(d time.Duration) int64 { return noon.Add(d).Unix() }
	exp := fmt.Sprintf(`"exp":%d`, in(time.Minute))
	user, backend := contract.Caller{Subject: "alice"}, contract.Caller{Subject: "alice", Backend: true}
	tests := []struct {
		name, token string
		want        contract.Caller
		code        contract.Code
	}{
		{"user", token(hs256, `{"sub":"alice",`+exp+`}`, keyA), user, ""},
		{"older key", token(hs256, `{"sub":"alice",`+exp+`}`, keyB), user, ""},
		{"backend", token(hs256, `{"sub":"alice",`+exp+`,"scope":"backend"}`, keyA), backend, ""},
		{"backend among scopes", token(hs256, `{"sub":"alice",`+exp+`,"scope":"read  backend write"}`, keyA), backend, ""},
		{"another scope", token(hs256, `{"sub":"alice",`+exp+`,"scope":"backends Backend"}`, keyA), user, ""},
		{"claims of no meaning here", token(hs256, `{"sub":"alice",`+exp+`,"iss":"x","aud":["y"],"iat":"z","jti":1}`, keyA), user, ""},
		{"an ID with anything", token(hs256, `{"sub":"a/b 😀",`+exp+`}`, keyA), contract.Caller{Subject: "a/b 😀"}, ""},
		{"expiry with a fraction", token(hs256, fmt.Sprintf(`{"sub":"alice","exp":%d.5}`, in(time.Minute)), keyA), user, ""},
		{"expiry as an exponent", token(hs256, `{"sub":"alice","exp":2.5e11}`, keyA), user, ""},
		{"within the leeway", token(hs256, fmt.Sprintf(`{"sub":"alice","exp":%d}`, in(-29*time.Second)), keyA), user, ""},
		{"not before, within the leeway", token(hs256, fmt.Sprintf(`{"sub":"alice",%s,"nbf":%d}`, exp, in(30*time.Second)), keyA), user, ""},
		{"null claims", token(hs256, `{"sub":"alice",`+exp+`,"nbf":null,"scope":null,"aud":null}`, keyA), user, ""},
		{"kid is ignored", token(`{"alg":"HS256","kid":"../../etc"}`, `{"sub":"alice",`+exp+`}`, keyA), user, ""},

		{"expired", token(hs256, fmt.Sprintf(`{"sub":"alice","exp":%d}`, in(-30*time.Second)), keyA), contract.Caller{}, "token_expired"},
		{"expired long ago", token(hs256, `{"sub":"alice","exp":0}`, keyA), contract.Caller{}, "token_expired"},
		{"expired before 1970", token(hs256, `{"sub":"alice","exp":-1e9}`, keyA), contract.Caller{}, "token_expired"},
		{"expired and of nobody's key", token(hs256, `{"sub":"alice","exp":0}`, keyC), contract.Caller{}, "invalid_token"},
		{"expired and not valid yet", token(hs256, fmt.Sprintf(`{"sub":"alice","exp":0,"nbf":%d}`, in(time.Hour)), keyA), contract.Caller{}, "invalid_token"},
		{"not before", token(hs256, fmt.Sprintf(`{"sub":"alice",%s,"nbf":%d}`, exp, in(31*time.Second)), keyA), contract.Caller{}, "invalid_token"},
		{"no expiry", token(hs256, `{"sub":"alice"}`, keyA), contract.Caller{}, "invalid_token"},
		{"null expiry", token(hs256, `{"sub":"alice","exp":null}`, keyA), contract.Caller{}, "invalid_token"},
		{"expiry in a text", token(hs256, `{"sub":"alice","exp":"2500000000"}`, keyA), contract.Caller{}, "invalid_token"},
		{"expiry that is true", token(hs256, `{"sub":"alice","exp":true}`, keyA), contract.Caller{}, "invalid_token"},
		{"huge expiry", token(hs256, `{"sub":"alice","exp":1e300}`, keyA), contract.Caller{}, "invalid_token"},
		{"expiry beyond floats", token(hs256, `{"sub":"alice","exp":1e999}`, keyA), contract.Caller{}, "invalid_token"},
		{"expiry in milliseconds", token(hs256, `{"sub":"alice","exp":1795420800000}`, keyA), contract.Caller{}, "invalid_token"},
		{"expiry twice", token(hs256, `{"sub":"alice","exp":0,`+exp+`}`, keyA), contract.Caller{}, "invalid_token"},
		{"subject twice", token(hs256, `{"sub":"bob","sub":"alice",`+exp+`}`, keyA), contract.Caller{}, "invalid_token"},
		{"subject in another case", token(hs256, `{"Sub":"alice",`+exp+`}`, keyA), contract.Caller{}, "invalid_token"},
		{"no subject", token(hs256, `{`+exp+`}`, keyA), contract.Caller{}, "invalid_token"},
		{"empty subject", token(hs256, `{"sub":"",`+exp+`}`, keyA), contract.Caller{}, "invalid_token"},
		{"subject that is no ID", token(hs256, `{"sub":"..",`+exp+`}`, keyA), contract.Caller{}, "invalid_token"},
		{"subject with a line end", token(hs256, `{"sub":"a\nb",`+exp+`}`, keyA), contract.Caller{}, "invalid_token"},
		{"subject that is a number", token(hs256, `{"sub":7,`+exp+`}`, keyA), contract.Caller{}, "invalid_token"},
		{"scope that is a list", token(hs256, `{"sub":"alice",`+exp+`,"scope":["backend"]}`, keyA), contract.Caller{}, "invalid_token"},
		{"invalid UTF-8", token(hs256, "{\"sub\":\"\xff\","+exp+`}`, keyA), contract.Caller{}, "invalid_token"},
		{"claims that are null", token(hs256, `null`, keyA), contract.Caller{}, "invalid_token"},
		{"claims that are a list", token(hs256, `[]`, keyA), contract.Caller{}, "invalid_token"},
		{"claims that are nothing", token(hs256, ``, keyA), contract.Caller{}, "invalid_token"},
		{"nobody's key", token(hs256, `{"sub":"alice",`+exp+`}`, keyC), contract.Caller{}, "invalid_token"},
		{"alg none", token(`{"alg":"none"}`, `{"sub":"alice",`+exp+`}`, keyA), contract.Caller{}, "invalid_token"},
		{"alg none, unsigned", unsigned(`{"alg":"none"}`, `{"sub":"alice",`+exp+`}`), contract.Caller{}, "invalid_token"},
		{"alg HS512 with a good HS256 signature", token(`{"alg":"HS512"}`, `{"sub":"alice",`+exp+`}`, keyA), contract.Caller{}, "invalid_token"},
		{"alg RS256", token(`{"alg":"RS256"}`, `{"sub":"alice",`+exp+`}`, keyA), contract.Caller{}, "invalid_token"},
		{"alg in another case", token(`{"alg":"hs256"}`, `{"sub":"alice",`+exp+`}`, keyA), contract.Caller{}, "invalid_token"},
		{"no alg", token(`{}`, `{"sub":"alice",`+exp+`}`, keyA), contract.Caller{}, "invalid_token"},
		{"unknown alg", token(`{"alg":"X"}`, `{"sub":"alice",`+exp+`}`, keyA), contract.Caller{}, "invalid_token"},
		{"critical header", token(`{"alg":"HS256","crit":["b64"],"b64":false}`, `{"sub":"alice",`+exp+`}`, keyA), contract.Caller{}, "invalid_token"},
		{"header that is null", token(`null`, `{"sub":"alice",`+exp+`}`, keyA), contract.Caller{}, "invalid_token"},
		{"not a token", "alice", contract.Caller{}, "invalid_token"},
		{"two parts", "a.b", contract.Caller{}, "invalid_token"},
		{"four parts", token(hs256, `{"sub":"alice",`+exp+`}`, keyA) + ".x", contract.Caller{}, "invalid_token"},
		{"empty parts", "..", contract.Caller{}, "invalid_token"},
		{"padding", token(hs256, `{"sub":"alice",`+exp+`}`, keyA) + "=", contract.Caller{}, "invalid_token"},
		{"signature cut off", token(hs256, `{"sub":"alice",`+exp+`}`, keyA)[:90], contract.Caller{}, "invalid_token"},
		{"huge", token(hs256, `{"sub":"alice",`+exp+`,"x":"`+strings.Repeat("x", auth.MaxToken)+`"}`, keyA), contract.Caller{}, "invalid_token"},
	}
	now := &clock{now: noon}
	v := newVerifier(t, auth.VerifierConfig{Keys: openKeys(t, keyA, keyB), Now: now.Now})
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			// The second time may be from memory.
			for range 2 {
				check(t, v, test.token, test.want, test.code)
			}
		})
	}
}

func check(t *testing.T, v *auth.Verifier, token string, want contract.Caller, code contract.Code) {
	t.Helper()
	caller, problem := v.Verify(context.Background(), token)
	var got contract.Code
	if problem != nil {
		got = problem.Code
	}
	if caller != want || got != code {
		t.Errorf("got %+v, %v, want %+v, %q", caller, problem, want, code)
	}
}

func unsigned(header, claims string) string {
	s := token(header, claims, keyA)
	return s[:strings.LastIndexByte(s, '.')+1]
}

// Algorithms that are not HS256 are refused however well they are signed.
func TestWrongAlgorithms(t *testing.T) {
	secret, err := base64.RawURLEncoding.DecodeString(keyA)
	if err != nil {
		t.Fatal(err)
	}
	v := newVerifier(t, auth.VerifierConfig{Keys: openKeys(t, keyA), Now: func() time.Time { return noon }})
	claims := jwt.MapClaims{"sub": "alice", "exp": noon.Add(time.Hour).Unix()}
	for method, key := range map[jwt.SigningMethod]any{
		jwt.SigningMethodHS384: secret, jwt.SigningMethodHS512: secret, jwt.SigningMethodNone: jwt.UnsafeAllowNoneSignatureType,
	} {
		signed, err := jwt.NewWithClaims(method, claims).SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		check(t, v, signed, contract.Caller{}, contract.InvalidToken)
	}
}

func TestIssuerAndAudience(t *testing.T) {
	exp := fmt.Sprintf(`"exp":%d`, noon.Unix())
	v := newVerifier(t, auth.VerifierConfig{Keys: openKeys(t, keyA), Issuer: "chat", Audience: "seenby", Now: func() time.Time { return noon }})
	alice := contract.Caller{Subject: "alice"}
	for claims, code := range map[string]contract.Code{
		`"iss":"chat","aud":"seenby"`:           "",
		`"iss":"chat","aud":["other","seenby"]`: "",
		`"iss":"chat","aud":["other"]`:          "invalid_token",
		`"iss":"chat","aud":[]`:                 "invalid_token",
		`"iss":"chat","aud":7`:                  "invalid_token",
		`"iss":"chat"`:                          "invalid_token",
		`"aud":"seenby"`:                        "invalid_token",
		`"iss":"Chat","aud":"seenby"`:           "invalid_token",
	} {
		want := alice
		if code != "" {
			want = contract.Caller{}
		}
		check(t, v, token(hs256, `{"sub":"alice",`+exp+`,`+claims+`}`, keyA), want, code)
	}
	check(t, v, token(hs256, `{"sub":"alice","exp":0,"iss":"x","aud":"seenby"}`, keyA), contract.Caller{}, contract.InvalidToken)
}

func TestRememberedTokens(t *testing.T) {
	path := keyFile(t, keyA)
	keys, err := auth.OpenKeys(path)
	if err != nil {
		t.Fatal(err)
	}
	now := &clock{now: noon}
	v := newVerifier(t, auth.VerifierConfig{Keys: keys, CacheSize: 1, Now: now.Now})
	alice := contract.Caller{Subject: "alice"}
	minted := mint(t, keys, auth.Grant{Subject: "alice", IssuedAt: noon, TTL: time.Minute})
	check(t, v, minted, alice, "")
	now.set(noon.Add(90*time.Second - 1))
	check(t, v, minted, alice, "")
	now.set(noon.Add(90 * time.Second))
	check(t, v, minted, contract.Caller{}, contract.TokenExpired)
	check(t, v, minted, contract.Caller{}, contract.TokenExpired)

	now.set(noon)
	check(t, v, minted, alice, "")
	// Another key comes, and goes again.
	for content, code := range map[string]contract.Code{keyB + "\n" + keyA: "", keyB: contract.InvalidToken} {
		write(t, path, keyA)
		if err := keys.Reload(); err != nil {
			t.Fatal(err)
		}
		check(t, v, minted, alice, "")
		write(t, path, content)
		if err := keys.Reload(); err != nil {
			t.Fatal(err)
		}
		want := alice
		if code != "" {
			want = contract.Caller{}
		}
		check(t, v, minted, want, code)
	}
}

func mint(t *testing.T, keys *auth.Keys, g auth.Grant) string {
	t.Helper()
	minted, err := auth.Mint(keys, g)
	if err != nil {
		t.Fatal(err)
	}
	return minted
}

func TestMint(t *testing.T) {
	keys := openKeys(t, keyB, keyA)
	v := newVerifier(t, auth.VerifierConfig{Keys: openKeys(t, keyB), Issuer: "i", Audience: "a", Now: func() time.Time { return noon }})
	check(t, v, mint(t, keys, auth.Grant{Subject: "chat", Scope: auth.ScopeBackend, Issuer: "i", Audience: "a", IssuedAt: noon, TTL: time.Hour}),
		contract.Caller{Subject: "chat", Backend: true}, "")
	check(t, v, mint(t, keys, auth.Grant{Subject: "chat", IssuedAt: noon, TTL: time.Hour}), contract.Caller{}, contract.InvalidToken)
	for name, g := range map[string]auth.Grant{
		"no subject":  {IssuedAt: noon, TTL: time.Hour},
		"bad subject": {Subject: "..", IssuedAt: noon, TTL: time.Hour},
		"no time":     {Subject: "alice", IssuedAt: noon},
	} {
		if _, err := auth.Mint(keys, g); err == nil {
			t.Errorf("%s: minted", name)
		}
	}
}

func TestAuthenticate(t *testing.T) {
	keys := openKeys(t, keyA)
	v := newVerifier(t, auth.VerifierConfig{Keys: keys, Now: func() time.Time { return noon }})
	good := mint(t, keys, auth.Grant{Subject: "alice", IssuedAt: noon, TTL: time.Minute})
	for _, test := range []struct {
		lines []string
		code  contract.Code
	}{
		{[]string{"Bearer " + good}, ""},
		{[]string{"bearer " + good}, ""},
		{[]string{"BEARER  " + good}, ""},
		{nil, "no_token"},
		{[]string{""}, "no_token"},
		{[]string{"Bearer"}, "no_token"},
		{[]string{"Bearer "}, "no_token"},
		{[]string{"Basic " + good}, "no_token"},
		{[]string{good}, "no_token"},
		{[]string{"Bearer" + good}, "no_token"},
		{[]string{"Bearer\t" + good}, "no_token"},
		{[]string{"Bearer " + good + ", Bearer " + good}, "invalid_token"},
		{[]string{"Bearer " + good, "Bearer " + good}, "invalid_token"},
	} {
		_, problem := v.Authenticate(&http.Request{Header: http.Header{"Authorization": test.lines}})
		var got contract.Code
		if problem != nil {
			got = problem.Code
		}
		if got != test.code {
			t.Errorf("%.60q: %v, want %q", test.lines, problem, test.code)
		}
	}
}

func TestRememberedTokenAllocatesNothing(t *testing.T) {
	keys := openKeys(t, keyA)
	v := newVerifier(t, auth.VerifierConfig{Keys: keys, Now: func() time.Time { return noon }})
	r := &http.Request{Header: http.Header{"Authorization": {"Bearer " + mint(t, keys, auth.Grant{Subject: "alice", IssuedAt: noon, TTL: time.Hour})}}}
	if _, problem := v.Authenticate(r); problem != nil {
		t.Fatal(problem)
	}
	if n := testing.AllocsPerRun(100, func() {
		if _, problem := v.Authenticate(r); problem != nil {
			t.Fatal(problem)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestConcurrentVerification(t *testing.T) {
	path := keyFile(t, keyA+"\n"+keyB)
	keys, err := auth.OpenKeys(path)
	if err != nil {
		t.Fatal(err)
	}
	v := newVerifier(t, auth.VerifierConfig{Keys: keys, CacheSize: 4, Now: func() time.Time { return noon }})
	var tokens []string
	for i := range 8 {
		tokens = append(tokens, mint(t, keys, auth.Grant{Subject: fmt.Sprint("user", i), IssuedAt: noon, TTL: time.Hour}))
	}
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 200 {
				n := (i + g) % len(tokens)
				if caller, problem := v.Verify(context.Background(), tokens[n]); problem != nil || caller.Subject != fmt.Sprint("user", n) {
					t.Errorf("%+v, %v", caller, problem)
				}
			}
		})
	}
	for i := range 20 {
		// Replaced as a whole, so that a reader never sees half of it.
		next := filepath.Join(filepath.Dir(path), "next")
		write(t, next, []string{keyA, keyB + "\n" + keyA}[i%2])
		if err := os.Rename(next, path); err != nil {
			t.Fatal(err)
		}
		if err := keys.Reload(); err != nil {
			t.Error(err)
		}
	}
	wg.Wait()
}

func FuzzVerify(f *testing.F) {
	f.Add(hs256, `{"sub":"alice","exp":2500000000,"scope":"backend"}`)
	f.Add(`{"alg":"HS256","crit":[]}`, `{"sub":"alice","exp":2500000000.5}`)
	f.Add(`{"alg":"none"}`, `{"sub":"alice","exp":-1e9}`)
	path := filepath.Join(f.TempDir(), "keys")
	if err := os.WriteFile(path, []byte(keyA), 0o600); err != nil {
		f.Fatal(err)
	}
	keys, err := auth.OpenKeys(path)
	if err != nil {
		f.Fatal(err)
	}
	v, err := auth.NewVerifier(auth.VerifierConfig{Keys: keys, Now: func() time.Time { return noon }})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, header, claims string) {
		if _, problem := v.Verify(context.Background(), token(header, claims, keyC)); problem == nil {
			t.Fatal("nobody's key verifies")
		}
		caller, problem := v.Verify(context.Background(), token(header, claims, keyA))
		if problem == nil && caller.Subject == "" {
			t.Fatal("a token of nobody is good")
		}
	})
}
