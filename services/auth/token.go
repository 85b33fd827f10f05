package auth

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/golang-jwt/jwt/v5"

	"github.com/seenby/seenby/events"
	"github.com/seenby/seenby/services/contract"
)

const (
	// ScopeBackend in a token's scope marks the chat backend.
	ScopeBackend = "backend"
	// MaxToken is the longest token, in bytes.
	MaxToken = 8 << 10
)

// Grant is what a minted token says.
type Grant struct {
	// Subject is whom the token speaks for, an ID.
	Subject string
	// Scope is space-separated: "" for a user, or [ScopeBackend].
	Scope string
	// Issuer and Audience are left out where empty.
	Issuer, Audience string
	// The token is valid from IssuedAt on, for TTL. Both count whole seconds.
	IssuedAt time.Time
	TTL      time.Duration
}

// Mint returns a token that says g, signed by the first of the keys.
func Mint(keys *Keys, g Grant) (string, error) {
	if err := events.CheckID(g.Subject); err != nil {
		return "", fmt.Errorf("subject: %w", err)
	}
	if g.TTL < time.Second {
		return "", fmt.Errorf("time to live: must be a second or more, not %v", g.TTL)
	}
	says := jwt.MapClaims{
		"sub": g.Subject,
		"iat": g.IssuedAt.Unix(),
		"exp": g.IssuedAt.Add(g.TTL).Unix(),
	}
	for name, value := range map[string]string{"scope": g.Scope, "iss": g.Issuer, "aud": g.Audience} {
		if value != "" {
			says[name] = value
		}
	}
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, says).SignedString(keys.current.Load().keys[0])
	if err != nil {
		return "", fmt.Errorf("sign a token: %w", err)
	}
	return token, nil
}

// claims are those of a token that mean something here. They are decoded in
// strict form: a repeated or differently-cased name never stands for a claim.
type claims struct {
	Subject  string           `json:"sub"`
	Scope    string           `json:"scope"`
	Issuer   string           `json:"iss"`
	Audience jwt.ClaimStrings `json:"aud"`
	Expires  numericDate      `json:"exp"`
	NotFrom  numericDate      `json:"nbf"`
}

var _ jwt.Claims = (*claims)(nil)

func (c *claims) UnmarshalJSON(b []byte) error {
	type plain claims
	return json.Unmarshal(b, (*plain)(c))
}

func (c *claims) GetExpirationTime() (*jwt.NumericDate, error) { return c.Expires.date(), nil }
func (c *claims) GetNotBefore() (*jwt.NumericDate, error)      { return c.NotFrom.date(), nil }
func (c *claims) GetIssuedAt() (*jwt.NumericDate, error)       { return nil, nil }
func (c *claims) GetIssuer() (string, error)                   { return c.Issuer, nil }
func (c *claims) GetSubject() (string, error)                  { return c.Subject, nil }
func (c *claims) GetAudience() (jwt.ClaimStrings, error)       { return c.Audience, nil }

// caller is who the claims speak for.
func (c *claims) caller() contract.Caller {
	caller := contract.Caller{Subject: c.Subject}
	for scope := range strings.SplitSeq(c.Scope, " ") {
		caller.Backend = caller.Backend || scope == ScopeBackend
	}
	return caller
}

// numericDate is seconds since 1970, with a fraction or without. What lies
// beyond the year 9999 on either side is refused rather than wrapped around.
type numericDate struct{ at *time.Time }

var errNumericDate = errors.New("not a number of seconds since 1970, up to the year 9999")

const maxNumericDate = 253_402_300_799

func (d *numericDate) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		return nil
	}
	seconds, err := strconv.ParseFloat(string(b), 64)
	if err != nil || math.Abs(seconds) > maxNumericDate {
		return errNumericDate
	}
	at := time.UnixMilli(int64(seconds * 1000))
	d.at = &at
	return nil
}

func (d *numericDate) date() *jwt.NumericDate {
	if d.at == nil {
		return nil
	}
	return &jwt.NumericDate{Time: *d.at}
}
