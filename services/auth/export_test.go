package auth

import "time"

// Hurry is for tests, before Run.
func (s *JWKS) Hurry(every, apart time.Duration, now func() time.Time) {
	s.every, s.apart, s.now = every, apart, now
}

// ParseKeySet returns how many keys a set has.
func ParseKeySet(content []byte) (int, error) {
	set, err := parseKeySet(content)
	if err != nil {
		return 0, err
	}
	return len(set.keys), nil
}
