package contract_test

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/seenby/seenby/services/contract"
)

func TestParsePull(t *testing.T) {
	version, cursor, position := testVersion.Encode("m1"), testCursor.Encode("m1", testSealer), testPosition.Encode()
	since := testSince.Version.Encode("m1")
	atCursor, atVersionCursor := testCursors["at"].Encode("m1", testSealer), testCursors["at_version"].Encode("m1", testSealer)
	whole := testCursors["whole"].Encode("m1", testSealer)
	otherLineage, otherLog := testSince.Version, testSince.Version
	otherLineage.Lineage++
	otherLog.Log++
	tests := []struct{ name, query, want string }{
		{"nothing", "", ""},
		{"limit", "limit=0", ""},
		{"largest limit", "limit=2000", ""},
		{"since", "since=" + version, ""},
		{"cursor", "cursor=" + cursor, ""},
		{"cursor with a limit", "cursor=" + cursor + "&limit=7", ""},
		{"cursor with its since", "cursor=" + cursor + "&since=" + since, ""},
		{"cursor of at", "cursor=" + atCursor, ""},
		{"cursor with its at", "cursor=" + atCursor + "&at=2026-11-23T08:00:00.500Z", ""},
		{"cursor with its at, spelled otherwise", "cursor=" + atCursor + "&at=2026-11-23t09:00:00.50%2B01:00", ""},
		{"cursor with its at_version", "cursor=" + atVersionCursor + "&at_version=" + since, ""},
		{"at", "at=2026-11-23T08:00:00Z", ""},
		{"at with an offset", "at=2026-11-23T13:30:00.123456789%2B05:30", ""},
		{"at before 1970", "at=1969-12-31T23:59:59.999-00:30", ""},
		{"at far ahead", "at=9999-12-31T23:59:59Z&limit=0", ""},
		{"at_version", "at_version=" + version, ""},
		{"at_version with the rest", "at_version=" + version + "&limit=0&min_position=" + position, ""},
		{"position", "min_position=" + position, ""},
		{"eight positions", strings.Repeat("min_position="+position+"&", 7) + "min_position=" + position, ""},
		{"all of them", "min_position=" + position + "&since=" + version + "&limit=50", ""},
		{"percent-encoded", "limi%74=5%30", ""},

		{"unknown", "x=1", "bad_parameter"},
		{"another case", "Limit=1", "bad_parameter"},
		{"no value", "limit", "bad_parameter"},
		{"empty name", "=1", "bad_parameter"},
		{"empty limit", "limit=", "bad_parameter"},
		{"limit too large", "limit=2001", "bad_parameter"},
		{"limit too large for 64 bits", "limit=99999999999999999999", "bad_parameter"},
		{"negative limit", "limit=-1", "bad_parameter"},
		{"signed limit", "limit=%2B1", "bad_parameter"},
		{"limit in hex", "limit=0x10", "bad_parameter"},
		{"fractional limit", "limit=1.0", "bad_parameter"},
		{"limit twice", "limit=1&limit=1", "bad_parameter"},
		{"since twice", "since=" + version + "&since=" + version, "bad_parameter"},
		{"cursor twice", "cursor=" + cursor + "&cursor=" + cursor, "bad_parameter"},
		{"nine positions", strings.Repeat("min_position="+position+"&", 9), "bad_parameter"},
		{"semicolon", "limit=1;since=x", "bad_parameter"},
		{"bad escape", "limit=%zz", "bad_parameter"},
		{"bad version", "since=x", "bad_version"},
		{"empty version", "since=", "bad_version"},
		{"another message's version", "since=" + testVersion.Encode("m2"), "bad_version"},
		{"a position for a version", "since=" + position, "bad_version"},
		{"bad cursor", "cursor=x", "bad_cursor"},
		{"another message's cursor", "cursor=" + testCursor.Encode("m2", testSealer), "bad_cursor"},
		{"a cursor of another secret", "cursor=" + testCursor.Encode("m1", sealer{[]byte("x")}), "bad_cursor"},
		{"bad position", "min_position=x", "bad_position"},
		{"one bad position of two", "min_position=" + position + "&min_position=x", "bad_position"},
		{"cursor with another since", "cursor=" + cursor + "&since=" + version, "bad_parameter"},
		{"cursor with a since of another lineage", "cursor=" + cursor + "&since=" + otherLineage.Encode("m1"), "bad_parameter"},
		{"cursor with a since of another log", "cursor=" + cursor + "&since=" + otherLog.Encode("m1"), "bad_parameter"},
		{"cursor of since with at", "cursor=" + cursor + "&at=2026-11-23T08:00:00Z", "bad_parameter"},
		{"cursor of since with its version as at_version", "cursor=" + cursor + "&at_version=" + since, "bad_parameter"},
		{"cursor of the whole set with since", "cursor=" + whole + "&since=" + since, "bad_parameter"},
		{"cursor of the whole set with at", "cursor=" + whole + "&at=1970-01-01T00:00:00Z", "bad_parameter"},
		{"cursor of at with another", "cursor=" + atCursor + "&at=2026-11-23T08:00:00.501Z", "bad_parameter"},
		{"cursor of at with since", "cursor=" + atCursor + "&since=" + since, "bad_parameter"},
		{"cursor of at_version with another", "cursor=" + atVersionCursor + "&at_version=" + version, "bad_parameter"},
		{"cursor of at_version with its version as since", "cursor=" + atVersionCursor + "&since=" + since, "bad_parameter"},
		{"since and at", "since=" + version + "&at=2026-11-23T08:00:00Z", "bad_parameter"},
		{"since and at_version", "since=" + version + "&at_version=" + version, "bad_parameter"},
		{"at and at_version", "at=2026-11-23T08:00:00Z&at_version=" + version, "bad_parameter"},
		{"all three", "at=2026-11-23T08:00:00Z&at_version=" + version + "&since=" + version, "bad_parameter"},
		{"at twice", "at=2026-11-23T08:00:00Z&at=2026-11-23T08:00:00Z", "bad_parameter"},
		{"at_version twice", "at_version=" + version + "&at_version=" + version, "bad_parameter"},
		{"empty at", "at=", "bad_parameter"},
		{"at without an offset", "at=2026-11-23T08:00:00", "bad_parameter"},
		{"at whose plus is a space", "at=2026-11-23T08:00:00+01:00", "bad_parameter"},
		{"at in milliseconds", "at=1795420800500", "bad_parameter"},
		{"a version for a time", "at=" + version, "bad_parameter"},
		{"empty at_version", "at_version=", "bad_version"},
		{"another message's at_version", "at_version=" + testVersion.Encode("m2"), "bad_version"},
		{"a time for a version", "at_version=2026-11-23T08:00:00Z", "bad_version"},
		{"a cursor for a version", "at_version=" + cursor, "bad_version"},
		{"cursor with no pages", "cursor=" + cursor + "&limit=0", "bad_parameter"},
		{"name of any length", strings.Repeat("x", 10_000) + "=1", "bad_parameter"},
		{"name that is no UTF-8", "%ff=1", "bad_parameter"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, problem := contract.ParsePull("m1", test.query, http.Header{}, testSealer)
			if got := told(problem); got != test.want {
				t.Fatalf("got %q, want %q: %v", got, test.want, problem)
			}
			if problem != nil && len(problem.Detail) > 500 {
				t.Errorf("the parameter comes back at length: %d bytes", len(problem.Detail))
			}
		})
	}
}

func TestParsePullValues(t *testing.T) {
	query := url.Values{"since": {testVersion.Encode("m1")}, "min_position": {testPosition.Encode(), contract.Position{Log: 1}.Encode()}}
	p, problem := contract.ParsePull("m1", query.Encode(), http.Header{}, testSealer)
	if problem != nil {
		t.Fatal(problem)
	}
	if p.MessageID != "m1" || p.Limit != contract.DefaultLimit || p.Part != (contract.Part{Kind: contract.PartSince, Version: testVersion}) || p.Cursor != nil ||
		len(p.MinPositions) != 2 || p.MinPositions[0].Next[63] != 300 || p.MinPositions[1].Log != 1 {
		t.Errorf("got %+v", p)
	}
	p, problem = contract.ParsePull("m1", "limit=7&cursor="+testCursor.Encode("m1", testSealer), http.Header{}, testSealer)
	if problem != nil || p.Limit != 7 || *p.Cursor != testCursor || p.Part != testSince {
		t.Errorf("got %+v, %v", p, problem)
	}
}

// Times are rounded down to what a read_at can be: what was read at the time or
// before was read in its millisecond or before.
func TestParsePullParts(t *testing.T) {
	for query, want := range map[string]contract.Part{
		"":                                                     {},
		"at=1970-01-01T00:00:00.0019999Z":                      {Kind: contract.PartAt, At: 1},
		"at=1970-01-01T00:00:00.002Z":                          {Kind: contract.PartAt, At: 2},
		"at=1970-01-01T01:00:00.003%2B01:00":                   {Kind: contract.PartAt, At: 3},
		"at=1969-12-31T23:59:59.9999Z":                         {Kind: contract.PartAt, At: -1},
		"at_version=" + testVersion.Encode("m1"):               {Kind: contract.PartAtVersion, Version: testVersion},
		"since=" + testVersion.Encode("m1"):                    {Kind: contract.PartSince, Version: testVersion},
		"cursor=" + testCursors["at"].Encode("m1", testSealer): testCursors["at"].Part,
	} {
		p, problem := contract.ParsePull("m1", query, http.Header{}, testSealer)
		if problem != nil || p.Part != want || want.Restricted() != (want.Kind == contract.PartAt || want.Kind == contract.PartAtVersion) {
			t.Errorf("%s: got %+v, %v", query, p, problem)
		}
	}
}

func TestIfNoneMatch(t *testing.T) {
	tests := []struct {
		name  string
		lines []string
		tags  []string
		any   bool
	}{
		{"none", nil, nil, false},
		{"weak", []string{`W/"a"`}, []string{"a"}, false},
		{"strong", []string{`"a"`}, []string{"a"}, false},
		{"list", []string{`W/"a", "b",W/"c"`}, []string{"a", "b", "c"}, false},
		{"lines", []string{`W/"a"`, `"b"`}, []string{"a", "b"}, false},
		{"empty elements", []string{` ,, "a" ,	,"b",`}, []string{"a", "b"}, false},
		{"star", []string{`*`}, nil, true},
		{"star with space", []string{` * `}, nil, true},
		{"star on a later line", []string{`"a"`, `*`}, nil, true},
		{"comma inside", []string{`"a,b", "c"`}, []string{"a,b", "c"}, false},
		{"empty tag", []string{`""`}, []string{""}, false},
		{"no quotes", []string{`a`}, nil, false},
		{"garbled after a good one", []string{`"a", b, "c"`}, []string{"a"}, false},
		{"not closed", []string{`"a`}, nil, false},
		{"lower-case w", []string{`w/"a"`}, nil, false},
		{"empty", []string{``}, nil, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p, problem := contract.ParsePull("m1", "", http.Header{"If-None-Match": test.lines}, testSealer)
			if problem != nil || !slices.Equal(p.IfNoneMatch, test.tags) || p.AnyMatch != test.any {
				t.Errorf("got %q, %v, %v", p.IfNoneMatch, p.AnyMatch, problem)
			}
		})
	}
}

func TestNoParameters(t *testing.T) {
	if problem := contract.NoParameters(""); problem != nil {
		t.Error(problem)
	}
	if problem := contract.NoParameters("x"); told(problem) != "bad_parameter" {
		t.Error(problem)
	}
}

func FuzzParsePull(f *testing.F) {
	f.Add("limit=1&since="+testVersion.Encode("m1"), `W/"a"`)
	f.Add("cursor="+testCursor.Encode("m1", testSealer)+"&min_position="+testPosition.Encode(), "*")
	f.Add("limit=%zz;", `"a`)
	f.Add("at=2026-11-23T09:00:00.50%2B01:00&cursor="+testCursors["at"].Encode("m1", testSealer), "")
	f.Add("limit=0&at_version="+testVersion.Encode("m1"), "")
	f.Fuzz(func(t *testing.T, query, etag string) {
		p, problem := contract.ParsePull("m1", query, http.Header{"If-None-Match": {etag}}, testSealer)
		if problem != nil {
			checkProblem(t, problem)
		} else if p.Limit < 0 || p.Limit > contract.MaxLimit || len(p.MinPositions) > contract.MaxMinPositions ||
			p.Part.Kind > contract.PartAtVersion || p.Cursor != nil && p.Part != p.Cursor.Part {
			t.Errorf("got %+v", p)
		}
	})
}
