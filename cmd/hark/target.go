package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// target is the destination of a download: a file, which appears whole or not at all, or a stream.
type target struct {
	path string // empty for a stream
	w    io.Writer
	tmp  *os.File
}

// newTarget opens where -o points to: a file, which is replaced, a folder, which gets a file of that
// name, "-" for stdout, or, like /dev/null, something that can only be written to. Without -o it is a
// file in the working folder, and one that is there already keeps its name.
func newTarget(output, name string, stdout io.Writer) (*target, error) {
	if output == "-" {
		return &target{w: stdout}, nil
	}
	path, err := targetPath(output, name)
	if err != nil {
		return nil, err
	}
	mode := fs.FileMode(0o666)
	if info, err := os.Stat(path); err == nil {
		if !info.Mode().IsRegular() {
			f, err := os.OpenFile(path, os.O_WRONLY, 0)
			return &target{path: path, w: f}, err
		}
		mode = info.Mode().Perm()
	}
	// In the same folder, so that it can be renamed, and with the permissions any new file gets.
	tmp, err := os.OpenFile(filepath.Join(filepath.Dir(path), ".hark-"+rand.Text()), os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return nil, err
	}
	return &target{path: path, w: tmp, tmp: tmp}, nil
}

func targetPath(output, name string) (string, error) {
	if output == "" {
		return freeName(safeName(name))
	}
	if info, err := os.Stat(output); err == nil && info.IsDir() {
		return filepath.Join(output, safeName(name)), nil
	} else if os.IsPathSeparator(output[len(output)-1]) {
		return "", badUsage("-o %s: there is no such folder", output)
	}
	// The file that a link points to is replaced, not the link.
	if resolved, err := filepath.EvalSymlinks(output); err == nil {
		return resolved, nil
	}
	return output, nil
}

// checkTarget returns the error of an invalid -o before the export begins.
func checkTarget(output string) error {
	if output == "" || output == "-" {
		return nil
	}
	path, err := targetPath(output, "x")
	if err != nil {
		return err
	}
	if info, err := os.Stat(filepath.Dir(path)); err != nil || !info.IsDir() {
		return badUsage("-o %s: there is no such folder", output)
	}
	return nil
}

// commit renames the temporary file to its final name.
func (t *target) commit() error {
	if t.tmp == nil {
		if f, ok := t.w.(io.Closer); ok && t.path != "" {
			return f.Close()
		}
		return nil
	}
	if err := errors.Join(t.tmp.Sync(), t.tmp.Close()); err != nil {
		return err
	}
	return os.Rename(t.tmp.Name(), t.path)
}

// discard deletes the temporary file. After a commit it does nothing.
func (t *target) discard() {
	if t.tmp != nil {
		t.tmp.Close()
		os.Remove(t.tmp.Name())
	}
}

// safeName makes a safe file name from the server's: only its last part, not hidden, and no name that an operating system
// reserves.
func safeName(name string) string {
	name = name[strings.LastIndexAny(name, `/\`)+1:]
	name = strings.Map(func(r rune) rune {
		if strings.ContainsRune(`<>:"|?*`, r) {
			return '_'
		}
		return r
	}, printable(name))
	name = strings.TrimRight(strings.TrimLeft(name, ". -"), ". ")
	if len(name) > 200 {
		name = strings.ToValidUTF8(name[:100], "") + strings.ToValidUTF8(name[len(name)-100:], "")
	}
	stem, _, _ := strings.Cut(strings.ToUpper(name), ".")
	switch {
	case name == "":
		return "export"
	case stem == "CON" || stem == "PRN" || stem == "AUX" || stem == "NUL",
		len(stem) == 4 && (strings.HasPrefix(stem, "COM") || strings.HasPrefix(stem, "LPT")):
		return "_" + name
	}
	return name
}

// freeName returns name, with a number if the file exists, as browsers do.
func freeName(name string) (string, error) {
	ext := filepath.Ext(name)
	for i := 1; i < 1000; i++ {
		free := name
		if i > 1 {
			free = fmt.Sprintf("%s-%d%s", strings.TrimSuffix(name, ext), i, ext)
		}
		if _, err := os.Lstat(free); errors.Is(err, fs.ErrNotExist) {
			return free, nil
		}
	}
	return "", badUsage("there are too many files like %s here; give a file with -o", name)
}

// counting reports the total number of bytes after each write.
type counting struct {
	w    io.Writer
	n    int64
	tell func(n int64)
}

func (c *counting) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	c.tell(c.n)
	return n, err
}
