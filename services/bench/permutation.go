package bench

import "math/bits"

// permutation is a random order of the numbers below n that takes no memory: a
// Feistel network over the next even number of bits, walked until it comes out
// below n. Every number comes exactly once.
type permutation struct {
	n    uint64
	half int // bits of each half
	mask uint64
	keys [4]uint64
}

func newPermutation(n, seed uint64) permutation {
	p := permutation{n: n, half: max(1, (bits.Len64(n-1)+1)/2)}
	p.mask = 1<<p.half - 1
	for i := range p.keys {
		seed = mix(seed)
		p.keys[i] = seed
	}
	return p
}

// at is the number that comes i-th; i is below n.
func (p *permutation) at(i uint64) uint64 {
	for {
		left, right := i>>p.half, i&p.mask
		for _, key := range p.keys {
			left, right = right, left^mix(right^key)&p.mask
		}
		// At most three of four numbers of that many bits are beyond n, so that this
		// ends soon; and it ends because a network is a permutation itself.
		if i = left<<p.half | right; i < p.n {
			return i
		}
	}
}
