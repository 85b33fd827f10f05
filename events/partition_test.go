package events

import "testing"

// The vectors are those of Kafka's own UtilsTest.testMurmur2.
func TestMurmur2(t *testing.T) {
	for key, want := range map[string]int32{
		"21":                         -973932308,
		"foobar":                     -790332482,
		"a-little-bit-long-string":   -985981536,
		"a-little-bit-longer-string": -1486304829,
		"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
		"abc": 479470107,
	} {
		if got := int32(murmur2([]byte(key))); got != want {
			t.Errorf("%s: %d, not %d", key, got, want)
		}
	}
}

func TestPartition(t *testing.T) {
	for key, want := range map[string]int32{
		"21":     (-973932308 & 0x7fffffff) % 64,
		"foobar": (-790332482 & 0x7fffffff) % 64,
		"abc":    479470107 % 64,
	} {
		if got := Partition(key, 64); got != want {
			t.Errorf("%s: %d, not %d", key, got, want)
		}
		if got := Partition([]byte(key), 64); got != want {
			t.Errorf("%s as bytes: %d, not %d", key, got, want)
		}
		if got := Partition(key, 1); got != 0 {
			t.Errorf("%s, of one partition: %d", key, got)
		}
	}
	if got := Partition("21", 1000); got != (-973932308&0x7fffffff)%1000 {
		t.Errorf("21, of 1000 partitions: %d", got)
	}
	key := []byte("a-little-bit-longer-string")
	if n := testing.AllocsPerRun(100, func() { Partition(key, 64) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
