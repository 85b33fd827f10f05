//go:build unix

package projector

import (
	"syscall"
	"time"
)

// cpuTime is how long the process has kept CPUs busy; 0 if that cannot be told.
func cpuTime() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
