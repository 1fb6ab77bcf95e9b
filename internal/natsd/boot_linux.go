package natsd

import (
	"os"
	"strings"
)

// bootID returns the id of this boot of the operating system (random(4), boot_id); empty if it is unknown.
func bootID() string {
	text, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}
