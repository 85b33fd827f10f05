package projections_test

import (
	"math"
	"testing"

	"github.com/seenby/seenby/projections"
)

func TestDigestsAddUp(t *testing.T) {
	values := []projections.Digest{{}, {Lo: 1}, {Hi: 1}, {Hi: 1, Lo: math.MaxUint64}, {Hi: math.MaxUint64, Lo: math.MaxUint64},
		{Hi: 0x0123456789abcdef, Lo: 0xfedcba9876543210}}
	for _, a := range values {
		if projections.DigestOf(a.Bytes()) != a {
			t.Errorf("%v is another from its bytes", a)
		}
		for _, b := range values {
			if a.Add(b) != b.Add(a) || a.Add(b).Sub(b) != a || a.Sub(b).Add(b) != a {
				t.Errorf("%v and %v do not add up", a, b)
			}
			for _, c := range values {
				if a.Add(b).Add(c) != c.Add(a).Add(b) {
					t.Errorf("the order of %v, %v and %v counts", a, b, c)
				}
			}
		}
	}
	if got := (projections.Digest{Lo: math.MaxUint64}).Add(projections.Digest{Lo: 1}); got != (projections.Digest{Hi: 1}) {
		t.Errorf("nothing is carried: %v", got)
	}
	if got := values[5].String(); got != "0123456789abcdeffedcba9876543210" {
		t.Errorf("it is written %s", got)
	}
}

// Copies of other builds are compared with these: they must not change.
func TestTheNumbersOfADigestStay(t *testing.T) {
	p := newPartition(onePartition(10), 0)
	digest := func() string {
		all := p.fold.Digests()
		if len(all) != 1 {
			t.Fatalf("%d hours", len(all))
		}
		return all[0].Digest.String()
	}
	seen := map[string]bool{"": true}
	for i, line := range []struct{ log, outcome, want string }{
		{"1s sent listed in c by alice to bob,carol out carol", "created", "e4c9bddb1a76be77858ad9266f7fcdc1"},
		{"1s sent counted in c by alice count 3", "created", "8bdc11a8ddd894b14d2d0d76e246953a"},
		{"2s read listed by bob", "counted", "514817d7d34907a399c118b3f020bc57"},
		{"2s read counted by bob", "counted", "014a7407c770af82c825b777336bae4f"},
		{"3s erase bob", "erased", "0aad6bbf2016974231d4a4363f912cf8"},
		{"3s recall listed", "recalled", "73eebf85cc5a1db735c305b480ff05d2"},
		{"3s recall counted", "recalled", "ca1f0830fd4b96ea2c51e66635cca4da"},
	} {
		s := &story{p: p}
		out, err := s.log(line.log)
		if err != nil || out[2:] != line.outcome+"\n" {
			t.Fatal(out, err)
		}
		if got := digest(); got != line.want || seen[got] {
			t.Errorf("%d: after %s it is %s, it was %s", i, line.log, got, line.want)
		} else {
			seen[got] = true
		}
		if err := p.checkDigests(); err != nil {
			t.Error(err)
		}
	}
}

// Everything in a partition counts.
func TestDigestsTellStatesApart(t *testing.T) {
	const (
		sent = "1s sent m in c by alice to bob,carol\n2s read m by bob"
		crwd = "1s sent m in c by alice count 3\n2s read m by bob"
	)
	seen := make(map[projections.Digest]string)
	for _, log := range []string{
		sent, crwd,
		"1s sent n in c by alice to bob,carol\n2s read n by bob",
		"1s sent m in d by alice to bob,carol\n2s read m by bob",
		"1s sent m in c by carol to bob,alice\n2s read m by bob",
		"1.001s sent m in c by alice to bob,carol\n2s read m by bob",
		"1s sent m in c by alice to bob,carol,dave\n2s read m by bob",
		"1s sent m in c by alice to bob,carol out bob\n2s read m by carol",
		"1s sent m in c by alice to bob,carol\n2s read m by carol",
		"1s sent m in c by alice to bob,carol\n2.001s read m by bob",
		"1s sent m in c by alice to bob,carol\n9@2s read m by bob",
		"9@1s sent m in c by alice to bob,carol\n10@2s read m by bob",
		"1s sent m in c by dave count 3\n2s read m by bob",
		"1s sent m in c by alice count 4\n2s read m by bob",
		"1s sent m in c by alice count 3\n2s read m by carol",
		sent + "\n3s recall m", sent + "\n9@3s recall m", crwd + "\n3s recall m",
		sent + "\n3s erase bob", sent + "\n3s erase zoe", sent + "\n9@3s erase bob", crwd + "\n3s erase bob",
	} {
		p := newPartition(onePartition(10), 0)
		if _, err := (&story{p: p}).log(log); err != nil {
			t.Fatal(err)
		}
		digest := p.fold.Digests()[0].Digest
		if other, found := seen[digest]; found {
			t.Errorf("one digest of\n%s\nand\n%s", log, other)
		}
		seen[digest] = log
	}
}

func TestHours(t *testing.T) {
	const hour = 3_600_000
	for at, want := range map[int64]int64{0: 0, 1: 0, hour - 1: 0, hour: 1, -1: -1, -hour: -1, -hour - 1: -2} {
		if got := projections.Hour(at); got != want {
			t.Errorf("%d lies in hour %d", at, got)
		}
	}
	if projections.HourEnded(1, 2*hour-1) || !projections.HourEnded(1, 2*hour) {
		t.Error("an hour ends at another time")
	}
}
