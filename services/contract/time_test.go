package contract_test

import (
	"testing"

	"github.com/seenby/seenby/services/contract"
)

func TestParseTime(t *testing.T) {
	good := map[string]int64{
		"1970-01-01T00:00:00Z":                 0,
		"1970-01-01t00:00:00z":                 0,
		"1970-01-01T00:00:00.000Z":             0,
		"1970-01-01T01:00:00+01:00":            0,
		"1969-12-31T18:30:00-05:30":            0,
		"1970-01-01T00:00:00-00:00":            0,
		"1970-01-01T00:00:00.0019999Z":         1,
		"1969-12-31T23:59:59.9999Z":            -1,
		"1969-12-31T23:59:59.999Z":             -1,
		"2026-11-23T08:00:04.120Z":             1795420804120,
		"2016-12-31T23:59:60Z":                 1483228800000,
		"2016-12-31T23:59:60.5Z":               1483228800500,
		"2017-01-01T05:29:60+05:30":            1483228800000,
		"2024-02-29T00:00:00Z":                 1709164800000,
		"0000-01-01T00:00:00Z":                 -62167219200000,
		"9999-12-31T23:59:59.999Z":             253402300799999,
		"1970-01-01T00:00:00.123456789012345Z": 123,
	}
	for s, want := range good {
		if got, err := contract.ParseTime(s); err != nil || got != want {
			t.Errorf("%s: %d, %v, want %d", s, got, err, want)
		}
	}
	for _, s := range []string{"", "now", "2026-11-23", "2026-11-23T08:00:00", "2026-11-23 08:00:00Z", "2026-11-23T08:00Z",
		"2026-11-23T8:00:00Z", "2026-11-23T08:00:00,5Z", "2026-11-23T08:00:00.Z", "2026-11-23T08:00:00+0100", "2026-11-23T08:00:00+01",
		"2026-13-01T00:00:00Z", "2026-02-29T00:00:00Z", "2026-11-23T24:00:00Z", "2026-11-23T08:60:00Z", "2026-11-23T08:00:61Z",
		"2026-11-23T08:00:60Z", "2016-12-31T23:59:60+01:00", "2026-11-23T08:00:00+24:00", "2026-11-23T08:00:00+01:60",
		"10000-01-01T00:00:00Z", "-001-01-01T00:00:00Z", "1795420800", " 2026-11-23T08:00:00Z", "2026-11-23T08:00:00Z ", "2026-11-23T08:00:00Z\n"} {
		if got, err := contract.ParseTime(s); err == nil {
			t.Errorf("%q was taken for %d", s, got)
		}
	}
}

func TestAppendTime(t *testing.T) {
	for ms, want := range map[int64]string{0: "1970-01-01T00:00:00.000Z", -1: "1969-12-31T23:59:59.999Z", 1795420804120: "2026-11-23T08:00:04.120Z"} {
		if got := string(contract.AppendTime(nil, ms)); got != want {
			t.Errorf("%d: %s, want %s", ms, got, want)
		}
	}
}

func FuzzParseTime(f *testing.F) {
	f.Add("2026-11-23T08:00:04.120Z")
	f.Add("2016-12-31T23:59:60z")
	f.Fuzz(func(t *testing.T, s string) {
		ms, err := contract.ParseTime(s)
		if err != nil || ms < -62167219200000 || ms > 253402300799999 {
			return
		}
		again, err := contract.ParseTime(string(contract.AppendTime(nil, ms)))
		if err != nil || again != ms {
			t.Errorf("%q is %d, which is written as %d: %v", s, ms, again, err)
		}
	})
}
