package bench

import "errors"

// limit holds a process, and what it starts, to an amount of memory, without
// swap; its page cache counts too. A nil limit limits nothing.
type limit struct {
	bytes int64
	dir   string
	// procs is the file that a process enters by, and kills the one that counts
	// those that were killed, in a line that begins with killsName.
	procs, kills, killsName string
}

func (l *limit) files() []string { return []string{l.procs} }

// errKilled is wrapped by what is returned for a process that took too much.
var errKilled = errors.New("it was killed, as it went beyond the memory limit")
