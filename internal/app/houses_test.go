package app_test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/hark-jobs/hark/"

// houses says who may know whom: for each package, by prefix, what it must not import. The longest prefix
// that fits a package counts.
var houses = map[string][]string{
	"jobs":             {"worker", "notifier", "internal", "cmd", "harktest", gin, sqlite, pgx, mysql, kong},
	"worker":           {"notifier", "internal", "cmd", "harktest", gin, sqlite, pgx, mysql, kong},
	"worker/export":    {"notifier", "internal", "cmd", "harktest", gin, kong},
	"notifier":         {"worker", "internal", "cmd", "harktest", sqlite, pgx, mysql, kong},
	"notifier/sse":     {"worker", "internal", "cmd", "harktest", "notifier/inbox", gin, sqlite, pgx, mysql, kong},
	"notifier/inbox":   {"worker", "internal", "cmd", "harktest", "notifier/sse", gin, mysql, kong},
	"notifier/auth":    {"worker", "internal", "cmd", "harktest", gin, sqlite, pgx, mysql, kong},
	"notifier/web":     {"jobs", "worker", "internal", "cmd", "harktest", gin},
	"internal/app":     {"cmd", "harktest", gin, sqlite, pgx, mysql, kong},
	"internal/door":    {"jobs", "worker", "notifier", "internal", "cmd", "harktest", gin, sqlite, pgx, mysql, kong},
	"internal/secret":  {"jobs", "worker", "notifier", "internal", "cmd", "harktest", gin, sqlite, pgx, mysql, kong},
	"internal/trouble": {"jobs", "worker", "notifier", "internal", "cmd", "harktest", gin, sqlite, pgx, mysql, kong},
	"internal/natsd":   {"jobs", "worker", "notifier", "cmd", "harktest", gin},
	"internal/client":  {"worker", "notifier", "internal", "cmd", "harktest", gin},
	"harktest":         {"cmd", gin, kong},
	"cmd":              {"harktest", gin, sqlite, pgx, mysql},
	"internal/backup":  {"worker", "notifier", "internal/app", "cmd", "harktest", gin, sqlite, pgx, mysql, kong},
}

const (
	gin    = "github.com/gin-gonic/gin"
	sqlite = "modernc.org/sqlite"
	pgx    = "github.com/jackc/pgx/v5"
	mysql  = "github.com/go-sql-driver/mysql"
	kong   = "github.com/alecthomas/kong"
)

// shared are the internal packages that every package may import: they import nothing of hark.
var shared = []string{"internal/secret", "internal/trouble"}

// The houses of DESIGN: jobs ← worker, notifier ← internal/app ← cmd. Worker and notifier never import each
// other; Gin is known to the notifier alone, SQL drivers to the inbox and the export, flags to cmd.
func TestHouses(t *testing.T) {
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", module+"...").Output()
	if err != nil {
		t.Fatal(err)
	}
	dec := json.NewDecoder(strings.NewReader(string(out)))
	seen := 0
	for {
		var pkg struct {
			ImportPath string
			Imports    []string
		}
		if err := dec.Decode(&pkg); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimPrefix(pkg.ImportPath, module)
		house := ""
		for prefix := range houses {
			if within(name, prefix) && len(prefix) > len(house) {
				house = prefix
			}
		}
		if house == "" {
			continue
		}
		seen++
		for _, imported := range pkg.Imports {
			for _, forbidden := range houses[house] {
				if own := strings.TrimPrefix(imported, module); within(own, forbidden) && !within(forbidden, house) && !slices.Contains(shared, own) {
					t.Errorf("%s imports %s, which its house (%s) must not know", name, own, house)
				}
			}
		}
	}
	if seen < 10 {
		t.Errorf("only %d packages were looked at", seen)
	}
}

func within(name, prefix string) bool { return name == prefix || strings.HasPrefix(name, prefix+"/") }
