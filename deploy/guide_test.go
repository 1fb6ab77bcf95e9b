package deploy_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestGuide checks docs/deploy.md: each hark command, each variable, and each linked file.
func TestGuide(t *testing.T) {
	t.Parallel()
	file, err := os.ReadFile("../docs/deploy.md")
	if err != nil {
		t.Fatal(err)
	}
	guide := string(file)

	commands := 0
	blocks := regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(guide, -1)
	command := regexp.MustCompile(`(?m)(?:^|until |\$\()hark ([a-z][^;)\n]*)`)
	for _, block := range blocks {
		for _, match := range command.FindAllStringSubmatch(strings.ReplaceAll(block[1], "\\\n", ""), -1) {
			commands++
			args := strings.Fields(match[1])
			if args[0] == "restore" {
				args[1] = t.TempDir() // the folder must exist
			}
			checkCommand(t, args, nil)
		}
	}
	if commands < 8 {
		t.Errorf("only %d commands were found", commands)
	}

	// A line of a settings file or a drop-in sets a variable of the command that reads it.
	written := regexp.MustCompile(`(?s)cat >(\S+) <<'END'\n(.*?)END\n`)
	commandOf := map[string]string{"hark.env": "serve", "setup.env": "setup", "notifier.env": "notifier", "worker.env": "worker",
		"hark.service.d": "serve", "hark-worker@.service.d": "worker"}
	files := 0
	for _, match := range written.FindAllStringSubmatch(guide, -1) {
		name := filepath.Base(match[1])
		if strings.HasSuffix(name, ".conf") {
			name = filepath.Base(filepath.Dir(match[1]))
		}
		if commandOf[name] == "" {
			t.Errorf("who reads %s?", match[1])
			continue
		}
		files++
		var env []string
		for line := range strings.Lines(match[2]) {
			line = strings.TrimPrefix(strings.TrimSpace(line), "Environment=")
			if strings.HasPrefix(line, "HARK_") {
				env = append(env, line)
			}
		}
		if len(env) == 0 {
			t.Errorf("%s sets nothing", match[1])
		}
		checkCommand(t, []string{commandOf[name]}, env)
	}
	if files < 6 {
		t.Errorf("only %d files are written", files)
	}

	// Flags in the text are those of some command.
	var known []string
	for _, command := range []string{"serve", "notifier", "worker", "setup", "nats-config", "token", "backup", "restore", "migrate inbox"} {
		help, err := helpOf(t, strings.Fields(command))
		if err != nil {
			t.Fatal(help)
		}
		known = append(known, regexp.MustCompile(`--[a-z][a-z-]*`).FindAllString(help, -1)...)
	}
	scaling, err := os.ReadFile("../docs/scaling.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, match := range regexp.MustCompile("`(?:hark [a-z]+ )?(--[a-z][a-z-]*)").FindAllStringSubmatch(guide+string(scaling), -1) {
		if match[1] != "--x-y" && !slices.Contains(known, match[1]) {
			t.Errorf("no command has %s", match[1])
		}
	}

	headings := make(map[string]bool)
	for _, match := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(guide, -1) {
		headings["#"+strings.ReplaceAll(strings.ToLower(match[1]), " ", "-")] = true
	}
	for _, match := range regexp.MustCompile(`\]\(([^)]+)\)`).FindAllStringSubmatch(guide, -1) {
		to, _, _ := strings.Cut(match[1], "#")
		if to == "" {
			if !headings[match[1]] {
				t.Errorf("there is no heading %s", match[1])
			}
		} else if _, err := os.Stat(filepath.Join("../docs", to)); err != nil {
			t.Error(err)
		}
	}
	for _, match := range regexp.MustCompile(`deploy/[a-z]+/[\w.*-]+`).FindAllString(guide, -1) {
		if found, err := filepath.Glob(filepath.Join("..", match)); err != nil || len(found) == 0 {
			t.Errorf("there is no %s", match)
		}
	}
}
