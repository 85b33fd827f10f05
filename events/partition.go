package events

import "encoding/binary"

// Partition is the partition, of n, that a record with this key belongs to:
// murmur2 as Kafka's own clients use it by default, its sign bit cleared, modulo
// n. A record of the topic that lies elsewhere is misplaced.
func Partition[T ~string | ~[]byte](key T, n int32) int32 {
	return int32(murmur2([]byte(key))&0x7fffffff) % n
}

// murmur2 is MurmurHash2 with the seed of Kafka's
// org.apache.kafka.common.utils.Utils.murmur2. franz-go has it too but does not
// export it; its partitioner, which a test holds this to, would allocate a
// record a call.
func murmur2(b []byte) uint32 {
	const (
		seed = 0x9747b28c
		m    = 0x5bd1e995
		r    = 24
	)
	h := seed ^ uint32(len(b))
	for ; len(b) >= 4; b = b[4:] {
		k := binary.LittleEndian.Uint32(b) * m
		k ^= k >> r
		h = h*m ^ k*m
	}
	switch len(b) {
	case 3:
		h ^= uint32(b[2]) << 16
		fallthrough
	case 2:
		h ^= uint32(b[1]) << 8
		fallthrough
	case 1:
		h = (h ^ uint32(b[0])) * m
	}
	h ^= h >> 13
	h *= m
	h ^= h >> 15
	return h
}
