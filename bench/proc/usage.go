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

// CPU is the time of the processor that a process has used, all its threads together. The kernel counts the sum
// exactly; how it splits into user and system is a sample.
type CPU struct {
	User, System time.Duration
}

// Total is user and system together.
func (c CPU) Total() time.Duration { return c.User + c.System }

// Sub returns what was used since an earlier reading.
func (c CPU) Sub(before CPU) CPU { return CPU{c.User - before.User, c.System - before.System} }

// tick is the unit of the times in /proc, which Linux gives as hundredths of a second on every architecture that
// Go runs on.
const tick = 10 * time.Millisecond

// CPUOf reads what a process has used so far, to a hundredth of a second.
func CPUOf(pid int) (CPU, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return CPU{}, err
	}
	// The second field is the program's name in parentheses, which may hold spaces and parentheses.
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(fields) < 13 {
		return CPU{}, fmt.Errorf("/proc/%d/stat is not as expected: %q", pid, b)
	}
	user, err1 := strconv.ParseInt(fields[11], 10, 64) // fields 14 and 15 of proc_pid_stat(5)
	system, err2 := strconv.ParseInt(fields[12], 10, 64)
	return CPU{time.Duration(user) * tick, time.Duration(system) * tick}, errors.Join(err1, err2)
}

// Memory is what a process holds, in bytes.
type Memory struct {
	RSS  int64 // now
	Peak int64 // at most, so far
}

// MemoryOf reads what a process holds.
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
