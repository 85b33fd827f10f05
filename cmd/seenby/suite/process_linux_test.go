package suite

import "syscall"

// dieWithParent has the kernel kill the process if the tests' own is killed, so
// that nothing of a run stays behind.
func dieWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
