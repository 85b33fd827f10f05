package auth

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/seenby/seenby/events"
	"github.com/seenby/seenby/services/contract"
)

const (
	// Leeway is how far the clocks of those who sign and those who verify may be
	// apart.
	Leeway = 30 * time.Second
	// DefaultCacheSize is how many verified tokens are remembered. It is of the
	// order of the users that one process serves at a time.
	DefaultCacheSize = 10_000
)

// VerifierConfig says which tokens are good.
type VerifierConfig struct {
	Keys *Keys
	// Issuer and Audience are what iss must be and aud must have; empty ones are
	// not checked.
	Issuer, Audience string
	// Leeway is for exp and nbf.
	Leeway time.Duration
	// CacheSize is how many verified tokens are remembered, or
	// [DefaultCacheSize] if 0. A token takes up to [MaxToken] bytes.
	CacheSize int
	// Now is the clock, time.Now if nil.
	Now func() time.Time
}

// Verifier tells whom a bearer token speaks for. A token that was verified is
// remembered, no longer than it is valid and only while the keys stay the same:
// a removed key stops verifying at once. Its methods may be called concurrently,
// and allocate nothing for a token that they remember.
type Verifier struct {
	keys   *Keys
	leeway time.Duration
	now    func() time.Time
	parser *jwt.Parser
	cache  *lru.Cache[string, verified]
}

// verified is what is remembered of a good token.
type verified struct {
	caller contract.Caller
	// until is when it expires, leeway included.
	until time.Time
	// under are the keys that it was verified with.
	under *keySet
}

// NewVerifier returns a verifier of the tokens that c describes.
func NewVerifier(c VerifierConfig) (*Verifier, error) {
	if c.Keys == nil {
		return nil, errors.New("token verifier: no keys")
	}
	if c.Leeway < 0 || c.CacheSize < 0 {
		return nil, errors.New("token verifier: leeway and cache size must be 0 or more")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.CacheSize == 0 {
		c.CacheSize = DefaultCacheSize
	}
	cache, err := lru.New[string, verified](c.CacheSize)
	if err != nil {
		return nil, fmt.Errorf("token verifier: %w", err)
	}
	options := []jwt.ParserOption{
		jwt.WithValidMethods([]string{jwt.SigningMethodHS256.Alg()}),
		jwt.WithExpirationRequired(),
		jwt.WithStrictDecoding(),
		jwt.WithLeeway(c.Leeway),
		jwt.WithTimeFunc(c.Now),
		jwt.WithIssuer(c.Issuer),
	}
	if c.Audience != "" {
		options = append(options, jwt.WithAudience(c.Audience))
	}
	return &Verifier{keys: c.Keys, leeway: c.Leeway, now: c.Now, parser: jwt.NewParser(options...), cache: cache}, nil
}

// Authenticate tells whom the bearer token of a request speaks for. Its problem
// is no_token, invalid_token or token_expired.
func (v *Verifier) Authenticate(r *http.Request) (contract.Caller, *contract.Problem) {
	lines := r.Header["Authorization"]
	if len(lines) > 1 {
		return contract.Caller{}, invalid("more than one Authorization header")
	}
	if len(lines) == 1 {
		scheme, token, _ := strings.Cut(lines[0], " ")
		if token = strings.Trim(token, " "); token != "" && strings.EqualFold(scheme, "Bearer") {
			return v.Verify(token)
		}
	}
	return contract.Caller{}, contract.NewProblem(contract.NoToken, "send a token: Authorization: Bearer TOKEN")
}

// Verify tells whom a token speaks for. Its problem is invalid_token or
// token_expired.
func (v *Verifier) Verify(token string) (contract.Caller, *contract.Problem) {
	if len(token) > MaxToken {
		return contract.Caller{}, invalid("the token is longer than %d bytes", MaxToken)
	}
	if known, found := v.cache.Get(token); found {
		switch {
		case known.under != v.keys.current.Load():
		case v.now().Before(known.until):
			return known.caller, nil
		default:
			v.cache.Remove(token)
			return contract.Caller{}, expired()
		}
	}
	// The keys are taken once, so that what is remembered is remembered of them.
	under := v.keys.current.Load()
	says, problem := v.parse(token, under)
	if problem != nil {
		v.cache.Remove(token)
		return contract.Caller{}, problem
	}
	known := verified{caller: says.caller(), until: says.Expires.at.Add(v.leeway), under: under}
	v.cache.Add(token, known)
	return known.caller, nil
}

func (v *Verifier) parse(token string, under *keySet) (*claims, *contract.Problem) {
	says := new(claims)
	parsed, err := v.parser.ParseWithClaims(token, says, func(*jwt.Token) (any, error) {
		set := jwt.VerificationKeySet{Keys: make([]jwt.VerificationKey, len(under.keys))}
		for i, key := range under.keys {
			set.Keys[i] = key
		}
		return set, nil
	})
	if err != nil {
		return nil, tokenProblem(err)
	}
	// RFC 7515: what a critical extension means is not known here, so the token
	// is not understood.
	if _, found := parsed.Header["crit"]; found {
		return nil, invalid("the token has critical header parameters, of which none is known")
	}
	if err := events.CheckID(says.Subject); err != nil {
		return nil, invalid("the token's sub: %v", err)
	}
	return says, nil
}

// tokenProblem tells a token that has merely expired, where a new one helps,
// from one that is wrong. What it tells is of the token alone.
func tokenProblem(err error) *contract.Problem {
	says := []struct {
		is   error
		text string
	}{
		{jwt.ErrTokenMalformed, "the token is malformed"},
		{jwt.ErrTokenUnverifiable, "the token's algorithm must be HS256"},
		{jwt.ErrTokenSignatureInvalid, "the token is not signed with HS256 by one of the keys"},
		{jwt.ErrTokenRequiredClaimMissing, "the token lacks a claim: exp, and iss and aud where they are checked"},
		{jwt.ErrTokenNotValidYet, "the token is not valid yet"},
		{jwt.ErrTokenInvalidIssuer, "the token's iss is not the one expected"},
		{jwt.ErrTokenInvalidAudience, "the token's aud lacks the one expected"},
	}
	for _, s := range says {
		if errors.Is(err, s.is) {
			return invalid("%s", s.text)
		}
	}
	if errors.Is(err, jwt.ErrTokenExpired) {
		return expired()
	}
	return invalid("the token is not valid").Because(err)
}

func invalid(detail string, args ...any) *contract.Problem {
	return contract.NewProblem(contract.InvalidToken, detail, args...)
}

func expired() *contract.Problem {
	return contract.NewProblem(contract.TokenExpired, "the token has expired: get a new one")
}
