package pull

import (
	"maps"
	"strings"
	"testing"
	"time"
)

func TestParseDictionary(t *testing.T) {
	for _, c := range []struct {
		in   string
		want map[string]any // nil: not a dictionary
	}{
		{"", map[string]any{}},
		{"   ", map[string]any{}},
		{"a=1", map[string]any{"a": int64(1)}},
		{"  a=1  ", map[string]any{"a": int64(1)}},
		{"a=-1, b=999999999999999", map[string]any{"a": int64(-1), "b": int64(999999999999999)}},
		{"a=1\t ,\t b=2", map[string]any{"a": int64(1), "b": int64(2)}},
		{"a,b", map[string]any{"a": true, "b": true}},
		{"a=?1, b=?0", map[string]any{"a": true, "b": false}},
		{"a=1, a=2", map[string]any{"a": int64(2)}},
		{"a;x, b=1;y=2; z=\"q\"", map[string]any{"a": true, "b": int64(1)}},
		{"*a-b_c.d*1=1", map[string]any{"*a-b_c.d*1": int64(1)}},
		{"a=1.5, b=-0.123", map[string]any{"a": nil, "b": nil}},
		{`a="x, b=2", c=3`, map[string]any{"a": nil, "c": int64(3)}},
		{`a="\"\\"`, map[string]any{"a": nil}},
		{"a=tok/en:x*, b=*", map[string]any{"a": nil, "b": nil}},
		{"a=:aGk=:, b=::, c=:aGk:", map[string]any{"a": nil, "b": nil, "c": nil}},
		{"a=@1659578233, b=@-1", map[string]any{"a": nil, "b": nil}},
		{`a=%"f%c3%bc", b=1`, map[string]any{"a": nil, "b": int64(1)}},
		{"a=(), b=( 1 ), c=(1 2;x  \"s\");y, d=(?1 tok)", map[string]any{"a": nil, "b": nil, "c": nil, "d": nil}},

		{"A=1", nil}, {"1=1", nil}, {"=1", nil}, {",", nil}, {"a=1,", nil}, {"a=1, ", nil}, {",a=1", nil}, {"a=1,,b=2", nil},
		{"a =1", nil}, {"a= 1", nil}, {"a=", nil}, {"a=1 b=2", nil}, {"a;", nil}, {"a;B", nil}, {"a;x=", nil}, {"\ta=1", nil},
		{"a=1000000000000000", nil}, {"a=1.", nil}, {"a=.5", nil}, {"a=1.2345", nil}, {"a=1234567890123.1", nil}, {"a=-", nil}, {"a=+1", nil}, {"a=1.2.3", nil},
		{"a=?2", nil}, {"a=?", nil}, {`a="x`, nil}, {`a="\x"`, nil}, {"a=\"\n\"", nil}, {"a=\"ü\"", nil}, {"a=:a", nil}, {"a=:a b:", nil},
		{"a=@", nil}, {"a=@1.5", nil}, {"a=%", nil}, {`a=%"%C3%BC"`, nil}, {`a=%"%c3"`, nil}, {`a=%"%c`, nil}, {`a=%"x`, nil}, {`a=%x`, nil}, {"a=%\"\x01\"", nil}, {`a=%"%zz"`, nil},
		{"a=(", nil}, {"a=(1", nil}, {"a=(1,2)", nil}, {"a=(1\t2)", nil}, {"a=(1\"s\")", nil}, {"a=((1))", nil}, {"a=(1))", nil}, {"a={}", nil}, {"a=é", nil},
	} {
		got, ok := parseDictionary(c.in)
		if ok != (c.want != nil) || ok && !maps.Equal(got, c.want) {
			t.Errorf("%q is %v, %t; want %v", c.in, got, ok, c.want)
		}
	}
}

func TestParsePoll(t *testing.T) {
	const ms = time.Millisecond
	for _, c := range []struct {
		lines []string
		want  poll
		ok    bool
	}{
		{nil, poll{}, false},
		{[]string{""}, poll{}, true},
		{[]string{"interval=2000, window=20000"}, poll{interval: 2000 * ms, window: 20000 * ms}, true},
		{[]string{"interval=2000", "window=20000"}, poll{interval: 2000 * ms, window: 20000 * ms}, true},
		{[]string{"stop"}, poll{stop: true}, true},
		{[]string{"stop;why=complete"}, poll{stop: true}, true},
		{[]string{"stop=?0, interval=5"}, poll{interval: 5 * ms}, true},
		{[]string{"stop=1, interval=5"}, poll{interval: 5 * ms}, true},
		{[]string{"interval=0, window=-1"}, poll{}, true},
		{[]string{"interval=2.5, window=\"1\""}, poll{}, true},
		{[]string{"interval=999999999999999, window=?1"}, poll{interval: maxPoll}, true},
		{[]string{"unknown=(1 2), interval=7"}, poll{interval: 7 * ms}, true},
		{[]string{"interval=2000; window=20000, stop!"}, poll{}, false},
	} {
		if got, ok := parsePoll(c.lines); got != c.want || ok != c.ok {
			t.Errorf("%q is %+v, %t; want %+v, %t", c.lines, got, ok, c.want, c.ok)
		}
	}
}

func FuzzDictionary(f *testing.F) {
	for _, s := range []string{"interval=2000, window=20000", "stop", `a=("x" :aGk=: @1;p=?0), b=%"%c3%bc", c=-1.5`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		first, ok := parseDictionary(s)
		if !ok {
			return
		}
		// What is a dictionary stays one beside other members, and says the same.
		again, ok := parseDictionary(strings.Join([]string{"zz-first=1", strings.Trim(s, " "), "zz-last=?0"}, ", "))
		if len(first) == 0 {
			return
		}
		if !ok || again["zz-last"] != false {
			t.Fatalf("%q is a dictionary only by itself", s)
		}
		for key, value := range first {
			if key != "zz-last" && again[key] != value {
				t.Errorf("%q: %q is %v alone and %v among others", s, key, value, again[key])
			}
		}
	})
}
