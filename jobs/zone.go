package jobs

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"time"
)

// foreignZones are names, or first parts of names, that a machine may have a file for beside the zones of the IANA database, in
// small letters. Localtime and posixrules are other zones on other machines, right has leap seconds, posix and SystemV are not
// everywhere, and Factory says that no zone was set.
var foreignZones = []string{"local", "localtime", "posixrules", "posix", "right", "systemv", "factory"}

// LoadZone returns the zone with this name in the IANA database. Unlike [time.LoadLocation] it returns an error for a name that may
// be another zone on another machine, such as "", "Local" and "localtime", for a zone with leap seconds, such as "right/UTC",
// and for a name that is not a clean path, such as "./UTC". It may read a file. It is safe for concurrent use.
func LoadZone(name string) (*time.Location, error) {
	first, _, _ := strings.Cut(strings.ToLower(name), "/")
	if path.Clean(name) != name || slices.Contains(foreignZones, first) {
		return nil, fmt.Errorf("time zone %q: no name in the IANA database that is the same zone on every machine", name)
	}
	return time.LoadLocation(name)
}
