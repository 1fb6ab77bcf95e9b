package proc

import (
	"fmt"
	"syscall"
)

// RaiseFiles lets this process, and those it starts from now on, open as many files as the machine allows,
// and returns how many that is. Go raises its own limit at start, but gives its children the old one unless the
// limit is set by hand.
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
