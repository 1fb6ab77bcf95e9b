package proc

import (
	"fmt"
	"syscall"
)

// RaiseFiles raises the limit of open files for this process, and for those that it starts from now on, to the machine's maximum, which it
// returns. Go raises its own limit at the start, but not that of its children unless the limit is set explicitly.
func RaiseFiles() (uint64, error) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0, fmt.Errorf("limit of open files: %w", err)
	}
	limit.Cur = limit.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0, fmt.Errorf("limit of open files: %w", err)
	}
	return limit.Cur, nil
}
