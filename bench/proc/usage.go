package proc

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// CPU is the CPU time of a process with all its threads. The kernel counts the sum exactly, and samples the parts of user and system.
type CPU struct {
	User, System time.Duration
}

// Total is user and system together.
func (c CPU) Total() time.Duration { return c.User + c.System }

// Sub returns the time since an earlier reading.
func (c CPU) Sub(before CPU) CPU { return CPU{c.User - before.User, c.System - before.System} }

// tick is the unit of the times in /proc: a hundredth of a second on every architecture of Go.
const tick = 10 * time.Millisecond

// CPUOf returns the CPU time of a process so far, with a precision of 10 ms.
func CPUOf(pid int) (CPU, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return CPU{}, err
	}
	// The second field is the program's name in parentheses, which may have spaces and parentheses.
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(fields) < 13 {
		return CPU{}, fmt.Errorf("/proc/%d/stat is not as expected: %q", pid, b)
	}
	user, err1 := strconv.ParseInt(fields[11], 10, 64) // fields 14 and 15 of proc_pid_stat(5)
	system, err2 := strconv.ParseInt(fields[12], 10, 64)
	return CPU{time.Duration(user) * tick, time.Duration(system) * tick}, errors.Join(err1, err2)
}

// Memory is the memory of a process, in bytes.
type Memory struct {
	RSS  int64 // now
	Peak int64 // the largest so far
}

// MemoryOf returns the memory of a process.
func MemoryOf(pid int) (Memory, error) {
	path := fmt.Sprintf("/proc/%d/status", pid)
	rss, err1 := kilobytes(path, "VmRSS")
	peak, err2 := kilobytes(path, "VmHWM")
	return Memory{rss, peak}, errors.Join(err1, err2)
}

func kilobytes(path, name string) (int64, error) {
	value := field(path, name)
	n, err := strconv.ParseInt(strings.TrimSuffix(value, " kB"), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s of %s: %w", name, path, err)
	}
	return n << 10, nil
}
