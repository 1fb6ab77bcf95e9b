package main

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"github.com/hark-jobs/hark"
)

// Every option that an error of package hark names has a flag of hark serve, and every one of package backup a flag of hark restore.
func TestErrorsNameFlags(t *testing.T) {
	var cli CLI
	parser, err := kong.New(&cli, kong.Vars{"version": ""})
	if err != nil {
		t.Fatal(err)
	}
	flags := make(map[string][]string) // by command
	for _, command := range parser.Model.Leaves(false) {
		for _, group := range command.AllFlags(false) {
			for _, flag := range group {
				flags[command.Name] = append(flags[command.Name], "--"+flag.Name)
			}
		}
	}
	// Options that the command never sets, or sets to one value, need none.
	without := []string{"Only", "NATS", "NATSServers", "Inbox", "Auth", "Export", "Export.Sample", "Handlers"}
	for setting := range reflect.TypeFor[hark.Settings]().Fields() { // package joblog names them, without Options
		if flag := flagName("Settings." + setting.Name); !slices.Contains(flags["setup"], flag) {
			t.Errorf("there is no flag %s of Options.Settings.%s", flag, setting.Name)
		}
	}
	without = append(without, "Settings") // the name of one of them follows
	files, err := filepath.Glob("../../*.go")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	ofBackup, err := filepath.Glob("../../internal/backup/*.go")
	if err != nil || len(ofBackup) == 0 {
		t.Fatal(ofBackup, err)
	}
	found := 0
	for _, file := range append(files, ofBackup...) {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		command := "serve"
		switch filepath.Base(file) {
		case "natsconfig.go":
			command = "nats-config"
		case "migrateinbox.go":
			command = "inbox"
		}
		if slices.Contains(ofBackup, file) {
			command = "restore"
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.SplitSeq(string(text), "\n") {
			if strings.HasPrefix(strings.TrimSpace(line), "//") {
				continue
			}
			for _, name := range optionName.FindAllStringSubmatch(line, -1) {
				found++
				if flag := flagName(name[1]); !slices.Contains(flags[command], flag) && !slices.Contains(without, name[1]) {
					t.Errorf("%s names Options.%s, and hark %s has no flag %s", filepath.Base(file), name[1], command, flag)
				}
			}
		}
	}
	if found < 30 {
		t.Errorf("only %d names were found", found)
	}
}

func TestNameFlags(t *testing.T) {
	for text, want := range map[string]string{
		"Options.TLSCert and Options.TLSKey go together.": "--tls-cert and --tls-key go together.",
		"Set Options.NATSServers.URL.":                    "Set --nats.",
		"Options.MaxConnectionsPerAddress is negative.":   "--max-connections-per-address is negative.",
		"Options.JWKS, or Options.JWTSecret":              "--jwks, or --jwt-secret-file",
		"Options.Settings.UserFileSpace is 5 bytes.":      "--user-file-space is 5 bytes.",
		"Options.Settings.Lease is 1ms.":                  "--lease is 1ms.",
		"No option is named.":                             "No option is named.",
	} {
		if got := nameFlags(&hark.Error{Code: "c", Message: text}).Error(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if err := errors.New("Options.Data"); nameFlags(err) != err {
		t.Error("another error was changed")
	}
}
