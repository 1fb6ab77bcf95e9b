package rules_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// banned lists phrases that comments and docs must not have, and what to write instead. CONTRIBUTING.md has the rule behind it.
var banned = []struct{ phrase, instead string }{
	{"whoever", "name the subject: the worker, the caller, any program"},
	{"who asks", "the caller"},
	{"so many", "the number, or the name of the parameter"},
	{"anew", "again"},
	{"is told", "is notified, gets"},
	{"are told", "are notified, get"},
	{"the telling", "the notification, notifying"},
	{"heed", "stop when the context ends"},
	{"had better", "must, should"},
	{"to be had", "available"},
	{"taken for one", "considered"},
	{"how-manieth", "the run number"},
	{"no JSON", "not JSON"},
	{"good no more", "revoked, invalid"},
	{"does so for", "repeat the verb"},
	{"lock is held", "a name that ends with Locked, and: the lock must be held"},
	{"behind this cursor", "after this cursor"},
	{"at or behind", "up to and including"},
	{"last word", "latest state"},
	{"without a word", "silently"},
	{"call off", "cancel"},
	{"calls off", "cancel"},
	{"the seam", "the test hook, the interface"},
	{"broke off", "failed, was interrupted, ended"},
	{"is heard", "is received"},
	{"was heard", "was received"},
	{"knows of", "has, has received"},
	{"hands out", "returns, sends"},
	{"stands behind", "comes after"},
	{"asks again", "retries, requests it again"},
	{"afresh", "again"},
	{"is owed", "must get, is pending"},
}

// TestWords looks for banned phrases in the comments of all Go files, and in README.md, CONTRIBUTING.md and docs.
func TestWords(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	files := 0
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		name = filepath.ToSlash(name)
		switch {
		case d.IsDir() && (strings.HasPrefix(d.Name(), ".") && name != "." || d.Name() == "node_modules"):
			return fs.SkipDir
		case d.IsDir():
			return nil
		case name == "internal/rules/words_test.go" || name == "CHANGELOG.md":
			return nil
		}
		switch filepath.Ext(name) {
		case ".go":
			files++
			return checkComments(t, path, name)
		case ".md":
			files++
			text, err := os.ReadFile(path)
			checkWords(t, name, 1, string(text))
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files < 100 {
		t.Errorf("only %d files were looked at", files)
	}
}

func checkComments(t *testing.T, path, name string) error {
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, path, nil, parser.ParseComments)
	if err != nil {
		return err
	}
	for _, group := range file.Comments {
		var text strings.Builder
		for _, c := range group.List {
			text.WriteString(strings.TrimPrefix(c.Text, "//") + "\n")
		}
		checkWords(t, name, set.Position(group.Pos()).Line, text.String())
	}
	return nil
}

// quoted matches code in Markdown, and the left side of the table of examples in CONTRIBUTING.md.
var quoted = regexp.MustCompile("(?s)```.*?```|`[^`\n]*`|~~.*?~~")

// checkWords reports each banned phrase in a text that begins in the given line. A phrase may be broken by the end of a line.
func checkWords(t *testing.T, name string, line int, text string) {
	text = quoted.ReplaceAllStringFunc(text, func(code string) string {
		return strings.Map(func(r rune) rune {
			if r == '\n' {
				return r
			}
			return '-'
		}, code)
	})
	for i, pattern := range patterns {
		for _, at := range pattern.FindAllStringIndex(text, -1) {
			t.Errorf("%s:%d: %q; write instead: %s", name, line+strings.Count(text[:at[0]], "\n"), banned[i].phrase, banned[i].instead)
		}
	}
}

var patterns = func() (all []*regexp.Regexp) {
	for _, b := range banned {
		words := strings.ReplaceAll(regexp.QuoteMeta(b.phrase), " ", `\s+`)
		all = append(all, regexp.MustCompile(`(?i)\b`+words+`\b`))
	}
	return all
}()
