package protocol

import "strconv"

// Ranges writes ascending partitions compactly, as in "0-3, 7".
func Ranges(partitions []int32) string {
	var b []byte
	for i := 0; i < len(partitions); {
		last := i
		for last+1 < len(partitions) && partitions[last+1] == partitions[last]+1 {
			last++
		}
		if i > 0 {
			b = append(b, ", "...)
		}
		b = strconv.AppendInt(b, int64(partitions[i]), 10)
		if last > i {
			b = append(b, '-')
			b = strconv.AppendInt(b, int64(partitions[last]), 10)
		}
		i = last + 1
	}
	return string(b)
}
