//go:build !unix

package projector

import "time"

// cpuTime is how long the process has kept CPUs busy; 0 if that cannot be told.
func cpuTime() time.Duration { return 0 }
