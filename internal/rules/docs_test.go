package rules_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	codeBlock = regexp.MustCompile("(?ms)^```([a-z]*)\n(.*?)^```$")
	docLink   = regexp.MustCompile(`\]\(([^()\s]+)\)`)
)

// The Go in docs/from-scratch.md is that of the programs: each block is in the file that is linked last before it. The Chinese
// page has the same code.
func TestFromScratch(t *testing.T) {
	for _, page := range []string{"docs/from-scratch.md", "docs/zh/from-scratch.md"} {
		text, blocks := readDoc(t, page), 0
		for _, at := range codeBlock.FindAllStringSubmatchIndex(text, -1) {
			if text[at[2]:at[3]] != "go" {
				continue
			}
			blocks++
			code, file := text[at[4]:at[5]], ""
			for _, link := range docLink.FindAllStringSubmatch(text[:at[0]], -1) {
				if strings.HasSuffix(link[1], ".go") {
					file = filepath.Join(filepath.Dir(page), link[1])
				}
			}
			if file == "" {
				t.Errorf("%s: no program is linked before\n%s", page, code)
			} else if !strings.Contains("\n"+readDoc(t, file), "\n"+code) {
				t.Errorf("%s: %s does not have\n%s", page, file, code)
			}
		}
		if blocks < 10 {
			t.Errorf("%s has %d blocks of Go", page, blocks)
		}
	}
	checkSameCode(t, "docs/from-scratch.md", "docs/zh/from-scratch.md")
}

// README.zh.md has the code of README.md.
func TestReadmeInChinese(t *testing.T) { checkSameCode(t, "README.md", "README.zh.md") }

// checkSameCode checks that the code blocks of a page and its translation are the same, in the same order.
func checkSameCode(t *testing.T, page, translation string) {
	t.Helper()
	want, got := codeBlock.FindAllString(readDoc(t, page), -1), codeBlock.FindAllString(readDoc(t, translation), -1)
	if len(want) == 0 {
		t.Fatalf("%s has no code", page)
	}
	if len(got) != len(want) {
		t.Errorf("%s has %d blocks of code, and %s has %d", translation, len(got), page, len(want))
	}
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			t.Errorf("block %d of %s is\n%s\nand that of %s is\n%s", i+1, translation, got[i], page, want[i])
			return
		}
	}
}

// The relative links of the Chinese pages point to files.
func TestChineseLinks(t *testing.T) {
	pages := []string{"README.zh.md"}
	for _, pattern := range []string{"docs/zh/*.md", "examples/*/README.zh.md"} {
		found, err := filepath.Glob(filepath.Join("../..", pattern))
		if err != nil || len(found) == 0 {
			t.Errorf("no file is %s: %v", pattern, err)
		}
		for _, path := range found {
			pages = append(pages, strings.TrimPrefix(filepath.ToSlash(path), "../../"))
		}
	}
	links := 0
	for _, page := range pages {
		for _, link := range docLink.FindAllStringSubmatch(codeBlock.ReplaceAllString(readDoc(t, page), ""), -1) {
			path, _, _ := strings.Cut(link[1], "#")
			if path == "" || strings.Contains(path, ":") {
				continue
			}
			links++
			if _, err := os.Stat(filepath.Join("../..", filepath.Dir(page), path)); err != nil {
				t.Errorf("%s links to %s: %v", page, link[1], err)
			}
		}
	}
	if links < 30 {
		t.Errorf("only %d links were looked at", links)
	}
	if !slices.Contains(pages, "docs/zh/from-scratch.md") {
		t.Errorf("the pages are %q", pages)
	}
}

func readDoc(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../..", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
