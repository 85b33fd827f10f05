package contract_test

import (
	"bytes"
	"encoding/base64"
	"maps"
	"math"
	"regexp"
	"slices"
	"testing"

	"github.com/seenby/seenby/services/contract"
)

// sealer signs with the last of its secrets and verifies with all.
type sealer [][]byte

func (s sealer) Sign(message []byte) []byte { return contract.Sum(s[len(s)-1], message) }

func (s sealer) Verify(message, mac []byte) bool {
	for _, secret := range s {
		if bytes.Equal(contract.Sum(secret, message)[:len(mac)], mac) {
			return true
		}
	}
	return false
}

var testSealer = sealer{[]byte("old secret"), []byte("new secret")}

var (
	testVersion  = contract.Version{Log: 0xdeadbeef, Lineage: 0x01020304, Next: 300}
	testPosition = contract.Position{Log: 0xdeadbeef, Next: map[int32]int64{0: 1, 5: 1 << 40, 63: 300}}
	testSince    = contract.Part{Kind: contract.PartSince, Version: contract.Version{Log: 0xdeadbeef, Lineage: 0x01020304, Next: 100}}
	testCursor   = contract.Cursor{Log: 0xdeadbeef, Lineage: 0x01020304, Next: 300, Part: testSince, Delta: true, Index: 200, ReadCount: 1000}
	// One for each kind of part.
	testCursors = map[string]contract.Cursor{
		"whole":      {Log: 0xdeadbeef, Lineage: 0x01020304, Next: 300, Index: 200, ReadCount: 20_001, Truncated: true},
		"since":      testCursor,
		"at":         {Log: 0xdeadbeef, Lineage: 0x01020304, Next: 300, Part: contract.Part{Kind: contract.PartAt, At: 1795420800500}, Index: 200, ReadCount: 1000},
		"at_version": {Log: 0xdeadbeef, Lineage: 0x01020304, Next: 300, Part: contract.Part{Kind: contract.PartAtVersion, Version: testSince.Version}, Index: 200, ReadCount: 1000},
	}
)

// These never change: clients keep them, over restarts and upgrades. A new form
// gets a new first byte.
func TestGoldenStrings(t *testing.T) {
	golden := []struct{ got, want string }{
		{testVersion.Encode("m1"), "Ad6tvu8BAgMErAIAj9gT"},
		{testPosition.Encode(), "At6tvu8AAQWAgICAgCA6rAJ7b5cw"},
		{contract.Position{Log: 1, Next: map[int32]int64{7: 1}}.Encode(), "AgAAAAEHAUK7XwY"},
		{testCursors["whole"].Encode("m1", testSealer), "BN6tvu8BAgMEAAKsAsgBoZwBQ6w0IpRH7efHil1WTHfwbw"},
		{testCursors["since"].Encode("m1", testSealer), "BN6tvu8BAgMEAd6tvu8BAgMEZAGsAsgB6Aci530mLy9rNAA3QdkgYifO"},
		{testCursors["at"].Encode("m1", testSealer), "BN6tvu8BAgMEAuiX2vbAaACsAsgB6Af05MH48LYCQeaUYFFhr8iz"},
		{testCursors["at_version"].Encode("m1", testSealer), "BN6tvu8BAgMEA96tvu8BAgMEZACsAsgB6AdTFDWGsjd62SPRSFK_zHbS"},
	}
	for i, g := range golden {
		if g.got != g.want {
			t.Errorf("%d: got %s, want %s", i, g.got, g.want)
		}
		if !regexp.MustCompile(`^[A-Za-z0-9_-]+$`).MatchString(g.got) {
			t.Errorf("%s has other letters than the contract says", g.got)
		}
	}
}

func TestVersionRoundTrip(t *testing.T) {
	for _, v := range []contract.Version{testVersion, {}, {Next: 1}, {Log: math.MaxUint32, Lineage: math.MaxUint32, Next: math.MaxInt64}} {
		for _, id := range []string{"m1", "a/b", "😀"} {
			got, err := contract.ParseVersion(v.Encode(id), id)
			if err != nil || got != v {
				t.Errorf("%+v: %+v, %v", v, got, err)
			}
			if _, err := contract.ParseVersion(v.Encode(id), id+"x"); err == nil {
				t.Errorf("%+v passes for another message's", v)
			}
		}
	}
}

func TestPositionRoundTrip(t *testing.T) {
	full := contract.Position{Log: 7, Next: map[int32]int64{}}
	for p := range int32(64) {
		full.Next[p] = int64(p) << 30
	}
	for _, p := range []contract.Position{testPosition, full, {Next: map[int32]int64{}}, {Log: 1, Next: map[int32]int64{math.MaxInt32: math.MaxInt64}}} {
		got, err := contract.ParsePosition(p.Encode())
		if err != nil || got.Log != p.Log || !maps.Equal(got.Next, p.Next) {
			t.Errorf("%+v: %+v, %v", p, got, err)
		}
	}
}

func TestCursorRoundTrip(t *testing.T) {
	large := contract.Cursor{Log: math.MaxUint32, Next: math.MaxInt64, Part: contract.Part{Kind: contract.PartSince, Version: contract.Version{Next: math.MaxInt64}},
		Index: math.MaxInt32, ReadCount: math.MaxInt32}
	early := contract.Cursor{Part: contract.Part{Kind: contract.PartAt, At: math.MinInt64}, Delta: true, Truncated: true}
	for _, c := range append(slices.Collect(maps.Values(testCursors)), contract.Cursor{}, large, early) {
		got, err := contract.ParseCursor(c.Encode("m1", testSealer), "m1", testSealer)
		if err != nil || got != c {
			t.Errorf("%+v: %+v, %v", c, got, err)
		}
		if _, err := contract.ParseCursor(c.Encode("m1", testSealer), "m2", testSealer); err == nil {
			t.Errorf("%+v passes for another message's", c)
		}
		if _, err := contract.ParseCursor(c.Encode("m1", testSealer[:1]), "m1", testSealer); err != nil {
			t.Errorf("%+v, signed with the older secret: %v", c, err)
		}
		if _, err := contract.ParseCursor(c.Encode("m1", testSealer), "m1", testSealer[:1]); err == nil {
			t.Errorf("%+v passes without its secret", c)
		}
	}
}

// parsers take each of the opaque strings.
var parsers = map[string]func(string) error{
	"version":  func(s string) error { _, err := contract.ParseVersion(s, "m1"); return err },
	"position": func(s string) error { _, err := contract.ParsePosition(s); return err },
	"cursor":   func(s string) error { _, err := contract.ParseCursor(s, "m1", testSealer); return err },
}

var opaques = map[string]string{
	"version":  testVersion.Encode("m1"),
	"position": testPosition.Encode(),
	"cursor":   testCursors["at"].Encode("m1", testSealer),
}

func TestCorruptStringsAreRefused(t *testing.T) {
	for kind, good := range opaques {
		parse := parsers[kind]
		if err := parse(good); err != nil {
			t.Fatal(err)
		}
		bad := []string{"", " ", good + "A", good + "=", good + "\n", "\r\n" + good, good[:5] + "\n" + good[5:], good + good, good[:len(good)-1], good[1:], " " + good}
		for other, s := range opaques {
			if other != kind {
				bad = append(bad, s)
			}
		}
		// Every byte changed in every way, and every length.
		raw, err := base64.RawURLEncoding.DecodeString(good)
		if err != nil {
			t.Fatal(err)
		}
		for i := range raw {
			bad = append(bad, base64.RawURLEncoding.EncodeToString(raw[:i]))
			for x := 1; x < 256; x++ {
				b := bytes.Clone(raw)
				b[i] ^= byte(x)
				bad = append(bad, base64.RawURLEncoding.EncodeToString(b))
			}
		}
		// Every letter changed.
		for i := range good {
			for _, c := range []byte("Az09_-+/=. é\x00") {
				if b := []byte(good); b[i] != c {
					b[i] = c
					bad = append(bad, string(b))
				}
			}
		}
		for _, s := range bad {
			if parse(s) == nil {
				t.Errorf("%s: %q passes, changed from %q", kind, s, good)
			}
		}
	}
}

// What has a good sum can still be no string that was given out.
func TestOddFormsAreRefused(t *testing.T) {
	seal := func(b ...byte) string { return contract.SealForTest(b, "") }
	if _, err := contract.ParsePosition(seal(2, 0, 0, 0, 1, 0, 1, 3, 2)); err != nil {
		t.Fatalf("a good one: %v", err)
	}
	for name, s := range map[string]string{
		"a partition twice":       seal(2, 0, 0, 0, 1, 0, 1, 0, 2),
		"half a pair":             seal(2, 0, 0, 0, 1, 0),
		"half a number":           seal(2, 0, 0, 0, 1, 0, 0x80),
		"a number in a long form": seal(2, 0, 0, 0, 1, 0, 0x81, 0),
		"too short":               seal(2, 0, 0),
		"a partition over 31 bit": seal(2, 0, 0, 0, 1, 0x80, 0x80, 0x80, 0x80, 0x08, 1),
		"partitions over 31 bit":  seal(2, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0x07, 1, 1, 1),
		"an offset over 63 bit":   seal(2, 0, 0, 0, 1, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01),
	} {
		if p, err := contract.ParsePosition(s); err == nil {
			t.Errorf("%s: passes for %+v", name, p)
		}
	}
	for name, s := range map[string]string{
		"bytes after it": contract.SealForTest([]byte{1, 0, 0, 0, 1, 0, 0, 0, 1, 5, 0}, "m1"),
		"nothing next":   contract.SealForTest([]byte{1, 0, 0, 0, 1, 0, 0, 0, 1}, "m1"),
	} {
		if v, err := contract.ParseVersion(s, "m1"); err == nil {
			t.Errorf("%s: passes for %+v", name, v)
		}
	}
}

func TestOddCursorsAreRefused(t *testing.T) {
	sign := func(b ...byte) string {
		return contract.SignForTest(append([]byte{4, 0, 0, 0, 1, 0, 0, 0, 2}, b...), "m1", testSealer)
	}
	if _, err := contract.ParseCursor(sign(0, 0, 3, 2, 1), "m1", testSealer); err != nil {
		t.Fatalf("a good one: %v", err)
	}
	for name, s := range map[string]string{
		"nothing more":                sign(),
		"a kind of part that is none": sign(4, 0, 3, 2, 1),
		"half a version":              sign(1, 0, 0, 0, 1, 0, 0, 0),
		"no version":                  sign(3, 0, 0, 0, 1, 0, 0, 0, 1),
		"no time":                     sign(2),
		"a time in a long form":       sign(2, 0x80, 0, 0, 3, 2, 1),
		"no flags":                    sign(0),
		"flags that are none":         sign(0, 4, 3, 2, 1),
		"two fields":                  sign(0, 0, 3, 2),
		"a field in a long form":      sign(0, 0, 3, 2, 0x81, 0),
		"bytes after it":              sign(0, 0, 3, 2, 1, 0),
		"the format of a version":     contract.SignForTest([]byte{1, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 3, 2, 1}, "m1", testSealer),
		"a format that is none":       contract.SignForTest([]byte{3, 0, 0, 0, 1, 0, 0, 0, 2, 3, 0, 0, 2, 1}, "m1", testSealer),
	} {
		if c, err := contract.ParseCursor(s, "m1", testSealer); err == nil {
			t.Errorf("%s: passes for %+v", name, c)
		}
	}
}

func FuzzParseVersion(f *testing.F) {
	f.Add(testVersion.Encode("m1"))
	f.Fuzz(func(t *testing.T, s string) {
		if v, err := contract.ParseVersion(s, "m1"); err == nil && v.Encode("m1") != s {
			t.Errorf("%q is also %q", s, v.Encode("m1"))
		}
	})
}

func FuzzParsePosition(f *testing.F) {
	f.Add(testPosition.Encode(), []byte{2, 0, 0, 0, 1, 0, 1})
	f.Fuzz(func(t *testing.T, s string, raw []byte) {
		for _, s := range []string{s, contract.SealForTest(raw, "")} {
			if p, err := contract.ParsePosition(s); err == nil && p.Encode() != s {
				t.Errorf("%q is also %q", s, p.Encode())
			}
		}
	})
}

// What is signed like a cursor has no other spelling either.
func FuzzParseCursor(f *testing.F) {
	for _, c := range testCursors {
		s := c.Encode("m1", testSealer)
		raw, err := base64.RawURLEncoding.DecodeString(s)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(s, raw[:len(raw)-16])
	}
	f.Fuzz(func(t *testing.T, s string, raw []byte) {
		for _, s := range []string{s, contract.SignForTest(raw, "m1", testSealer)} {
			if c, err := contract.ParseCursor(s, "m1", testSealer); err == nil && c.Encode("m1", testSealer[:1]) != s && c.Encode("m1", testSealer) != s {
				t.Errorf("%q is also %q", s, c.Encode("m1", testSealer))
			}
		}
	})
}
