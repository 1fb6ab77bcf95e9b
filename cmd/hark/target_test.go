package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

func TestSafeName(t *testing.T) {
	for name, want := range map[string]string{
		"orders.xlsx":                "orders.xlsx",
		"../../etc/passwd":           "passwd",
		`C:\Windows\system32.dll`:    "system32.dll",
		"/":                          "export",
		"":                           "export",
		"..":                         "export",
		".bashrc":                    "bashrc",
		"-rf":                        "rf",
		"a\x00b\nc.csv":              "a�b c.csv",
		"q?.csv":                     "q_.csv",
		"NUL.csv":                    "_NUL.csv",
		"com1":                       "_com1",
		"trailing. . ":               "trailing",
		"Bestellungen für März.xlsx": "Bestellungen für März.xlsx",
	} {
		if got := safeName(name); got != want {
			t.Errorf("safeName(%q) = %q, want %q", name, got, want)
		}
	}
	if got := safeName(strings.Repeat("é", 300) + ".xlsx"); len(got) > 255 || !strings.HasSuffix(got, ".xlsx") {
		t.Errorf("a long name: %d bytes, %q", len(got), got)
	}
}

func write(t *testing.T, output, text string) string {
	t.Helper()
	target, err := newTarget(output, "orders.csv", io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	defer target.discard()
	if _, err := io.WriteString(target.w, text); err != nil {
		t.Fatal(err)
	}
	if err := target.commit(); err != nil {
		t.Fatal(err)
	}
	return target.path
}

func content(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestTargetReplacesWhole(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "out.csv")
	if err := os.WriteFile(path, []byte("before"), 0o640); err != nil {
		t.Fatal(err)
	}
	target, err := newTarget(path, "x", io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(target.w, "half"); err != nil {
		t.Fatal(err)
	}
	if got := content(t, path); got != "before" {
		t.Errorf("half way the file is %q", got)
	}
	target.discard()
	if files, err := os.ReadDir(dir); err != nil || len(files) != 1 {
		t.Errorf("left behind: %v, %v", files, err)
	}
	write(t, path, "after")
	info, err := os.Stat(path)
	if err != nil || content(t, path) != "after" || runtime.GOOS != "windows" && info.Mode().Perm() != 0o640 {
		t.Errorf("got %q, %v, %v", content(t, path), info.Mode(), err)
	}
}

func TestTargetPlaces(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, want := range []string{"orders.csv", "orders-2.csv", "orders-3.csv"} {
		if got := write(t, "", "x"); got != want {
			t.Errorf("without -o: %s, want %s", got, want)
		}
	}
	if err := os.Mkdir("sub", 0o755); err != nil {
		t.Fatal(err)
	}
	if got := write(t, "sub", "x"); got != filepath.Join("sub", "orders.csv") {
		t.Errorf("into a folder: %s", got)
	}
	var stdout bytes.Buffer
	target, err := newTarget("-", "x", &stdout)
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(target.w, "to stdout")
	if err := target.commit(); err != nil || stdout.String() != "to stdout" {
		t.Errorf("to stdout: %q, %v", stdout.String(), err)
	}
	if err := os.WriteFile("real.csv", []byte("before"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("real.csv", "link.csv"); err == nil { // not for everyone on Windows
		write(t, "link.csv", "through the link")
		if info, err := os.Lstat("link.csv"); err != nil || info.Mode()&os.ModeSymlink == 0 || content(t, "real.csv") != "through the link" {
			t.Errorf("the link was replaced: %v, %v", info, err)
		}
	}
	if runtime.GOOS != "windows" {
		write(t, os.DevNull, "nothing")
		if info, err := os.Stat(os.DevNull); err != nil || info.Mode().IsRegular() {
			t.Errorf("%s became %v, %v", os.DevNull, info, err)
		}
	}
	for _, output := range []string{"none/out.csv", "none/", "real.csv/out.csv"} {
		var usage *usageError
		if err := checkTarget(output); !errors.As(err, &usage) {
			t.Errorf("%s: %v", output, err)
		}
	}
}

func TestDataHome(t *testing.T) {
	home := func() (string, error) { return "/home/ana", nil }
	env := map[string]string{}
	getenv := func(name string) string { return env[name] }
	check := func(system, want string) {
		t.Helper()
		got, err := dataHome(system, getenv, home)
		if err != nil || filepath.ToSlash(got) != want {
			t.Errorf("%s: got %s, %v, want %s", system, got, err, want)
		}
	}
	check("linux", "/home/ana/.local/share")
	check("darwin", "/home/ana/Library/Application Support")
	if _, err := dataHome("windows", getenv, home); err == nil {
		t.Error("windows without LocalAppData: no error")
	}
	env["LocalAppData"] = `C:\Users\ana\AppData\Local`
	if got, err := dataHome("windows", getenv, home); err != nil || got != env["LocalAppData"] {
		t.Errorf("windows: %s, %v", got, err)
	}
	env["XDG_DATA_HOME"] = "relative"
	check("linux", "/home/ana/.local/share")
	if runtime.GOOS != "windows" {
		env["XDG_DATA_HOME"] = "/srv/data"
		check("freebsd", "/srv/data")
	}
}
