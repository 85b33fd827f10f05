package bench

import "encoding/binary"

// The kinds of UUID, so that a person never has the ID of a message.
const (
	messageIDs uint64 = iota + 1
	conversationIDs
	personIDs
)

// mix is splitmix64's finisher: every bit of x decides every bit of the result.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// uuid returns the text of the UUID (version 4, as they are given out at random)
// that number n of a kind has under a seed.
func uuid(seed, kind, n uint64) []byte {
	high := mix(mix(seed^kind<<56) ^ n)
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], high)
	binary.BigEndian.PutUint64(b[8:], mix(high^seed^0x5851f42d4c957f2d))
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	const digits = "0123456789abcdef"
	text := make([]byte, 0, 36)
	for i, c := range b {
		if i == 4 || i == 6 || i == 8 || i == 10 {
			text = append(text, '-')
		}
		text = append(text, digits[c>>4], digits[c&15])
	}
	return text
}
