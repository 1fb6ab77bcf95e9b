package jobs_test

import (
	"strings"
	"testing"

	"github.com/hark-jobs/hark/jobs"
)

// A zone that is another one on another machine, or has leap seconds, is refused, also where this machine has a file of its name.
func TestZonesAreTheSameOnEveryMachine(t *testing.T) {
	for _, name := range []string{
		"", "Local", "local", "localtime", "LOCALTIME", "posixrules", "Factory", "posix/UTC", "posix/Europe/Berlin", "right/UTC", "Right/Europe/Berlin", "SystemV/EST5",
		"./Europe/Berlin", "Europe/./Berlin", "Europe//Berlin", "./localtime", "Europe/../right/UTC", "Europe/Berlin/",
	} {
		if _, err := jobs.LoadZone(name); err == nil || !strings.Contains(err.Error(), "no name in the IANA database") {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, name := range []string{"UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires", "Etc/GMT+5", "EST5EDT", "GB-Eire", "US/Eastern", "Asia/Kolkata"} {
		if zone, err := jobs.LoadZone(name); err != nil || zone.String() != name {
			t.Errorf("%q: %v, %v", name, zone, err)
		}
	}
}
