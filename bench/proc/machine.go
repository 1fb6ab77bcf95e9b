package proc

import (
	"fmt"
	"os"
	"runtime"
	"strings"
)

// Machine describes in one line the machine of the figures.
func Machine() string {
	return fmt.Sprintf("%d cores of %s, %s, Linux %s, load %s", runtime.NumCPU(), field("/proc/cpuinfo", "model name"),
		runtime.Version(), firstLine("/proc/sys/kernel/osrelease"), load())
}

// load returns the load average: on a shared machine the figures depend on it.
func load() string {
	one, _, _ := strings.Cut(firstLine("/proc/loadavg"), " ")
	return one
}

func firstLine(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return "unknown"
	}
	line, _, _ := strings.Cut(string(b), "\n")
	return line
}

// field returns the value of the first line "name: value" of a file.
func field(path, name string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return "unknown"
	}
	for line := range strings.Lines(string(b)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}
