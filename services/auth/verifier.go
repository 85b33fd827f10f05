package auth

import (
	"context"
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
	// Keys verify HS256, and JWKS RS256, ES256 and EdDSA. One of them may be nil.
	Keys *Keys
	JWKS *JWKS
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
	jwks   *JWKS
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
	under keysInForce
}

// keysInForce are those of all sources; nil where there is none.
type keysInForce struct {
	hmac   *keySet
	public *publicKeySet
}

func (v *Verifier) inForce() (k keysInForce) {
	if v.keys != nil {
		k.hmac = v.keys.current.Load()
	}
	if v.jwks != nil {
		k.public = v.jwks.current.Load()
	}
	return k
}

// NewVerifier returns a verifier of the tokens that c describes.
func NewVerifier(c VerifierConfig) (*Verifier, error) {
	if c.Keys == nil && c.JWKS == nil {
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
	var methods []string
	if c.Keys != nil {
		methods = append(methods, jwt.SigningMethodHS256.Alg())
	}
	if c.JWKS != nil {
		methods = append(methods, jwt.SigningMethodRS256.Alg(), jwt.SigningMethodES256.Alg(), jwt.SigningMethodEdDSA.Alg())
	}
	options := []jwt.ParserOption{
		jwt.WithValidMethods(methods),
		jwt.WithExpirationRequired(),
		jwt.WithStrictDecoding(),
		jwt.WithLeeway(c.Leeway),
		jwt.WithTimeFunc(c.Now),
		jwt.WithIssuer(c.Issuer),
	}
	if c.Audience != "" {
		options = append(options, jwt.WithAudience(c.Audience))
	}
	return &Verifier{keys: c.Keys, jwks: c.JWKS, leeway: c.Leeway, now: c.Now, parser: jwt.NewParser(options...), cache: cache}, nil
}

// Ready is nil once there are keys of every source.
func (v *Verifier) Ready() error {
	if v.jwks == nil {
		return nil
	}
	return v.jwks.Ready()
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
			return v.Verify(r.Context(), token)
		}
	}
	return contract.Caller{}, contract.NewProblem(contract.NoToken, "send a token: Authorization: Bearer TOKEN")
}

// Verify tells whom a token speaks for. Its problem is invalid_token or
// token_expired. A token that names a key which is not known may have to wait for
// the key set to be fetched, until ctx ends.
func (v *Verifier) Verify(ctx context.Context, token string) (contract.Caller, *contract.Problem) {
	if len(token) > MaxToken {
		return contract.Caller{}, invalid("the token is longer than %d bytes", MaxToken)
	}
	if known, found := v.cache.Get(token); found {
		switch {
		case known.under != v.inForce():
		case v.now().Before(known.until):
			return known.caller, nil
		default:
			v.cache.Remove(token)
			return contract.Caller{}, expired()
		}
	}
	// The keys are taken once, so that what is remembered is remembered of them.
	under := v.inForce()
	says, missed, problem := v.parse(token, under)
	if missed {
		v.jwks.missed(ctx)
		if fresh := v.inForce(); fresh != under {
			under = fresh
			says, _, problem = v.parse(token, under)
		}
	}
	if problem != nil {
		v.cache.Remove(token)
		return contract.Caller{}, problem
	}
	known := verified{caller: says.caller(), until: says.Expires.at.Add(v.leeway), under: under}
	v.cache.Add(token, known)
	return known.caller, nil
}

// parse verifies a token with some keys. Missed says that it names a public key that
// is not among them.
func (v *Verifier) parse(token string, under keysInForce) (says *claims, missed bool, problem *contract.Problem) {
	says = new(claims)
	parsed, err := v.parser.ParseWithClaims(token, says, func(t *jwt.Token) (any, error) {
		var set jwt.VerificationKeySet
		// Which keys count is decided by the algorithm, so that a public key is never
		// taken for a secret.
		if algorithm := t.Method.Alg(); algorithm == jwt.SigningMethodHS256.Alg() {
			for _, key := range under.hmac.keys {
				set.Keys = append(set.Keys, key)
			}
		} else {
			id, _ := t.Header["kid"].(string)
			var known bool
			set.Keys, known = under.public.candidates(algorithm, id)
			missed = !known
		}
		if len(set.Keys) == 0 {
			return nil, errNoKey
		}
		return set, nil
	})
	if err != nil {
		return nil, missed, tokenProblem(err)
	}
	// RFC 7515: what a critical extension means is not known here, so the token
	// is not understood.
	if _, found := parsed.Header["crit"]; found {
		return nil, false, invalid("the token has critical header parameters, of which none is known")
	}
	if err := events.CheckID(says.Subject); err != nil {
		return nil, false, invalid("the token's sub: %v", err)
	}
	return says, false, nil
}

// errNoKey is for a token whose key is not known.
var errNoKey = errors.New("no such key")

// tokenProblem tells a token that has merely expired, where a new one helps,
// from one that is wrong. What it tells is of the token alone.
func tokenProblem(err error) *contract.Problem {
	says := []struct {
		is   error
		text string
	}{
		{jwt.ErrTokenMalformed, "the token is malformed"},
		{errNoKey, "the token is signed by none of the keys"},
		{jwt.ErrTokenUnverifiable, "the token's algorithm must be one that this service has keys for"},
		{jwt.ErrTokenSignatureInvalid, "the token is not signed by one of the keys, with their algorithm"},
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
