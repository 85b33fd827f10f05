package auth

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"
)

const (
	// MaxKeySet is the largest key set, in bytes.
	MaxKeySet = 256 << 10
	// MaxKeySetKeys is how many keys may be in it.
	MaxKeySetKeys = 100
	// minRSA is the shortest RSA key, in bits: NIST SP 800-131A has no shorter one
	// for signatures.
	minRSA = 2048
)

// publicKey is one key that tokens may be signed with. Its algorithm follows from
// what it is, and not from what a token says.
type publicKey struct {
	id        string
	algorithm string
	key       jwt.VerificationKey
}

// publicKeySet is one state of a JWKS. It is immutable, so that its address stands
// for it.
type publicKeySet struct {
	content []byte
	keys    []publicKey
}

// parseKeySet parses a JWKS (RFC 7517) with jwkset, which is kept, small, and
// checks each key's own consistency. Keys that no token here can be signed with
// (others' algorithms, encryption, RSA below 2048 bits) are passed over, as RFC
// 7517 wants it; a private key is an error, as it is one that everybody has.
func parseKeySet(content []byte) (*publicKeySet, error) {
	if len(content) > MaxKeySet {
		return nil, fmt.Errorf("over %d bytes", MaxKeySet)
	}
	// One key that is odd must not take the others with it.
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(content, &set); err != nil {
		return nil, errors.New("not a JSON object with keys, as in RFC 7517")
	}
	if len(set.Keys) > MaxKeySetKeys {
		return nil, fmt.Errorf("%d keys, at most %d", len(set.Keys), MaxKeySetKeys)
	}
	parsed := &publicKeySet{content: content}
	for i, raw := range set.Keys {
		key, usable, err := parsePublicKey(raw)
		if err != nil {
			return nil, fmt.Errorf("key %d: %w", i, err)
		}
		if usable {
			parsed.keys = append(parsed.keys, key)
		}
	}
	if len(parsed.keys) == 0 {
		return nil, fmt.Errorf("%d keys, and none for RS256 (2048 bits or more), ES256 or EdDSA signatures", len(set.Keys))
	}
	return parsed, nil
}

func parsePublicKey(raw json.RawMessage) (key publicKey, usable bool, err error) {
	var m jwkset.JWKMarshal
	if json.Unmarshal(raw, &m) != nil {
		return key, false, nil
	}
	if m.D != "" || m.P != "" || m.Q != "" {
		return key, false, errors.New("is a private key: publish the public one alone, and make a new pair")
	}
	if m.USE != "" && m.USE != jwkset.UseSig || len(m.KEYOPS) > 0 && !slices.Contains(m.KEYOPS, jwkset.KeyOpsVerify) {
		return key, false, nil
	}
	// Certificates say nothing here, and their addresses are not asked.
	m.X5U, m.X5C, m.X5T, m.X5TS256 = "", nil, "", ""
	jwk, err := jwkset.NewJWKFromMarshal(m, jwkset.JWKMarshalOptions{}, jwkset.JWKValidateOptions{})
	if err != nil {
		return key, false, nil //nolint:nilerr // It is one of another kind.
	}
	key.id = m.KID
	switch k := jwk.Key().(type) {
	case *rsa.PublicKey:
		key.algorithm, key.key, usable = jwt.SigningMethodRS256.Alg(), k, k.N.BitLen() >= minRSA
	case *ecdsa.PublicKey:
		key.algorithm, key.key, usable = jwt.SigningMethodES256.Alg(), k, k.Curve == elliptic.P256()
	case ed25519.PublicKey:
		key.algorithm, key.key, usable = jwt.SigningMethodEdDSA.Alg(), k, true
	}
	return key, usable && (m.ALG == "" || string(m.ALG) == key.algorithm), nil
}

// candidates are the keys that a token of this algorithm may be signed with: those
// of the ID that it names, if it names one. Known says that the ID is there at all.
func (s *publicKeySet) candidates(algorithm, id string) (keys []jwt.VerificationKey, known bool) {
	for _, k := range s.keys {
		if id != "" && k.id != id {
			continue
		}
		known = true
		if k.algorithm == algorithm {
			keys = append(keys, k.key)
		}
	}
	return keys, known
}
