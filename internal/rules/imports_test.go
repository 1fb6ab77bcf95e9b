package rules_test

import (
	"encoding/json"
	"errors"
	"go/parser"
	"go/token"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/hark-jobs/hark/"

// root is package hark, as the rules name it.
const root = "hark"

// forbidden lists, for each package by prefix, what it must not import. The longest prefix
// that fits a package counts.
var forbidden = map[string][]string{
	"jobs":                {"queue", "worker", "notifier", "internal", "cmd", "harktest", nats, gin, sqlite, pgx, mysql, kong},
	"files":               {"queue", "worker", "notifier", "internal", "cmd", "harktest", nats, gin, sqlite, pgx, mysql, kong},
	"queue":               {"worker", "notifier", "internal", "cmd", "harktest", gin, sqlite, pgx, mysql, kong},
	"client":              {"queue", "worker", "notifier", "internal", "cmd", "harktest", nats, gin, sqlite, pgx, mysql, kong},
	"internal/joblog":     {"queue", "worker", "notifier", "internal", "cmd", "harktest", gin, sqlite, pgx, mysql, kong},
	"worker":              {"notifier", "internal", "cmd", "harktest", gin, sqlite, pgx, mysql, kong},
	"worker/export":       {"notifier", "internal", "cmd", "harktest", gin, kong},
	"notifier":            {"worker", "internal", "cmd", "harktest", sqlite, pgx, mysql, kong},
	"notifier/sse":        {"worker", "internal", "cmd", "harktest", "notifier/inbox", gin, sqlite, pgx, mysql, kong},
	"notifier/inbox":      {"worker", "internal", "cmd", "harktest", "notifier/sse", gin, mysql, kong},
	"notifier/auth":       {"worker", "internal", "cmd", "harktest", gin, sqlite, pgx, mysql, kong},
	"notifier/web":        {"jobs", "worker", "internal", "cmd", "harktest", gin},
	root:                  {"cmd", "harktest", sqlite, pgx, mysql, kong},
	"internal/door":       {"jobs", "worker", "notifier", "internal", "cmd", "harktest", gin, sqlite, pgx, mysql, kong},
	"internal/exact":      {"jobs", "worker", "notifier", "internal", "cmd", "harktest", gin, sqlite, pgx, mysql, kong},
	"internal/secret":     {"jobs", "worker", "notifier", "internal", "cmd", "harktest", gin, sqlite, pgx, mysql, kong},
	"internal/sharedcall": {"jobs", "worker", "notifier", "internal", "cmd", "harktest", gin, sqlite, pgx, mysql, kong},
	"internal/trouble":    {"jobs", "worker", "notifier", "internal", "cmd", "harktest", gin, sqlite, pgx, mysql, kong},
	"internal/natsd":      {"jobs", "worker", "notifier", "cmd", "harktest", gin},
	"internal/check":      {"jobs", "worker", "notifier", "internal", "cmd", "harktest", gin, sqlite, pgx, mysql, kong},
	"harktest":            {"cmd", "internal", kong},
	"examples":            {"internal", "cmd", "notifier", "harktest"},
	"examples/embed":      {"internal", "cmd", "harktest", kong},
	"examples/likes":      {"internal", "cmd", "harktest", kong},
	"examples/board":      {"internal", "cmd", "harktest", kong},
	"examples/token-push": {"internal", "cmd", "harktest", kong},
	"cmd":                 {"internal", "internal/exact", "internal/trouble", "harktest", sqlite, pgx, mysql},
	"bench":               {"internal", "internal/exact", "internal/secret", "internal/trouble", "cmd"},
	"internal/demo":       {"notifier", "internal", "cmd", "harktest", nats, gin, sqlite, pgx, mysql, kong},
	"internal/backup":     {"worker", "notifier", "cmd", "harktest", gin, sqlite, pgx, mysql, kong},

	"examples/export-notify":  {"internal", "cmd", "harktest", kong},
	"examples/slow-operation": {"internal", "cmd", "harktest", kong},
	"examples/from-scratch":   {"internal", "cmd", "harktest", kong},
}

const (
	gin    = "github.com/gin-gonic/gin"
	nats   = "github.com/nats-io/nats.go"
	sqlite = "modernc.org/sqlite"
	pgx    = "github.com/jackc/pgx/v5"
	mysql  = "github.com/go-sql-driver/mysql"
	kong   = "github.com/alecthomas/kong"
)

// shared are the internal packages that every package may import, unless its rule names them: they import nothing of hark.
var shared = []string{"internal/exact", "internal/secret", "internal/sharedcall", "internal/trouble"}

// importers are the packages that may import an internal package, although their rule forbids all of these. A Go program has no
// use for hark check, which measures the way from a person's machine to hark and prints advice for that person, nor for the kind
// of demonstrations: so neither has a public form.
var importers = map[string][]string{
	"internal/joblog": {"queue", "worker", "notifier", "notifier/auth", "notifier/inbox", "notifier/sse"},
	"internal/demo":   {"harktest", "cmd/hark", "bench/sync"},
	"internal/check":  {"cmd/hark"},
}

// jobs ← internal/joblog ← queue, worker, notifier ← hark ← cmd, harktest. Worker and notifier never import each
// other; Gin is known to the notifier alone, but for its mode, which cmd and harktest set, and the router of [hark.Server.Register]; SQL drivers to the inbox and the export, flags to cmd.
func TestImportRules(t *testing.T) {
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
		name := short(pkg.ImportPath)
		rule := ""
		for prefix := range forbidden {
			if within(name, prefix) && len(prefix) > len(rule) {
				rule = prefix
			}
		}
		if rule == "" {
			continue
		}
		seen++
		check(t, name, rule, pkg.Imports)
	}
	check(t, "bench/jobs", "bench", importsOf(t, "../../bench/jobs")) // a module of its own
	if seen < 10 {
		t.Errorf("only %d packages were looked at", seen)
	}
}

// check fails the test for each import of the package name that the rule forbids.
func check(t *testing.T, name, rule string, imports []string) {
	t.Helper()
	for _, imported := range imports {
		own := short(imported)
		if slices.Contains(importers[own], name) {
			continue
		}
		for _, not := range forbidden[rule] {
			if within(own, not) && !within(not, rule) && (not == own || !slices.Contains(shared, own)) {
				t.Errorf("%s imports %s, which the rule of %s forbids", name, own, rule)
			}
		}
	}
}

// importsOf returns the imports of the Go files in a folder.
func importsOf(t *testing.T, dir string) (imports []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no Go files in %s: %v", dir, err)
	}
	for _, file := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, one := range parsed.Imports {
			imports = append(imports, strings.Trim(one.Path.Value, `"`))
		}
	}
	return imports
}

// short returns the name of a package in the rules.
func short(path string) string {
	if path+"/" == module {
		return root
	}
	return strings.TrimPrefix(path, module)
}

func within(name, prefix string) bool { return name == prefix || strings.HasPrefix(name, prefix+"/") }
