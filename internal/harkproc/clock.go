package harkproc

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// program is the package of the program.
const program = "github.com/hark-jobs/hark/cmd/hark"

// buildShifted builds the program with a clock that is ahead of the machine's, and returns its path. The machine's clock
// belongs to everybody, and Go reads it without a library that could be replaced, so the package time of this one program
// is another. It is compiled alone and linked to all else as it is: the linker sees by its fingerprint that what others know
// of the package is the same. To build all else with it would take minutes.
func buildShifted(shift time.Duration) (path string, err error) {
	root, err := output("env", "GOROOT")
	if err != nil {
		return "", err
	}
	original := filepath.Join(string(bytes.TrimSpace(root)), "src", "time", "time.go")
	source, err := os.ReadFile(original)
	if err != nil {
		return "", err
	}
	const now = "\tsec += unixToInternal - minWall\n" // in Now; no statement more, so that the symbols keep their order
	if bytes.Count(source, []byte(now)) != 1 {
		return "", errors.New("harkproc: time.Now is not what it was; its shift must be written again")
	}
	shifted := bytes.Replace(source, []byte(now), fmt.Appendf(nil, "%s + %d\n", now[:len(now)-1], int64(shift/time.Second)), 1)
	dir, err := newFolder()
	if err != nil {
		return "", err
	}
	replaced, overlay := filepath.Join(dir, "time.go"), filepath.Join(dir, "overlay.json")
	list, err := json.Marshal(map[string]any{"Replace": map[string]string{original: replaced}})
	if err == nil {
		err = errors.Join(os.WriteFile(replaced, shifted, 0o600), os.WriteFile(overlay, list, 0o600))
	}
	if err != nil {
		return "", err
	}
	archive := filepath.Join(dir, "time.a")
	// The name of the file is part of the fingerprint. With -trimpath it is that of the original.
	if _, err = output("build", "-overlay", overlay, "-o", archive, "time"); err != nil {
		return "", err
	}
	return link(dir, map[string]string{"time": archive})
}

// link links the program with other archives of some packages.
func link(dir string, archives map[string]string) (path string, err error) {
	packages, err := output("list", "-export", "-deps", "-f", "{{if .Export}}{{.ImportPath}}={{.Export}}{{end}}", program)
	if err != nil {
		return "", err
	}
	var config bytes.Buffer
	main := ""
	for line := range bytes.Lines(packages) {
		name, archive, _ := bytes.Cut(bytes.TrimSpace(line), []byte("="))
		if other, ok := archives[string(name)]; ok {
			archive = []byte(other)
		}
		if string(name) == program {
			main = string(archive)
		}
		fmt.Fprintf(&config, "packagefile %s=%s\n", name, archive)
	}
	path, packed := filepath.Join(dir, "hark"), filepath.Join(dir, "packages")
	if err := os.WriteFile(packed, config.Bytes(), 0o600); err != nil {
		return "", err
	}
	_, err = output("tool", "link", "-importcfg", packed, "-o", path, main)
	return path, err
}

// StartShifted is [Start] with a clock that is ahead of the machine's, until [Process.Unshift].
func StartShifted(t testing.TB, log io.Writer, shift time.Duration, args ...string) *Process {
	t.Helper()
	path, err := buildShifted(shift)
	if err != nil {
		t.Fatal(err)
	}
	return start(t, log, path, args)
}

// Unshift lets the process have the machine's clock from its next start on.
func (p *Process) Unshift() {
	p.t.Helper()
	path := Binary(p.t)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.binary = path
}
