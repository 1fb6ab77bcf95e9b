package natstest

import (
	"encoding/binary"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// Blocks returns the paths of a stream's block files in the folder of a server, the oldest first.
func Blocks(t testing.TB, dir, stream string) []string {
	t.Helper()
	folder := filepath.Join(dir, "jetstream", "$G", "streams", stream, "msgs")
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	var indexes []int
	for _, e := range entries {
		name, isBlock := strings.CutSuffix(e.Name(), ".blk")
		if n, err := strconv.Atoi(name); isBlock && err == nil {
			indexes = append(indexes, n)
		}
	}
	slices.Sort(indexes)
	var sorted []string
	for _, n := range indexes {
		sorted = append(sorted, filepath.Join(folder, strconv.Itoa(n)+".blk"))
	}
	if len(sorted) == 0 {
		t.Fatalf("stream %s has no blocks in %s", stream, dir)
	}
	return sorted
}

// Records returns where each record of a block file begins, and last where the file ends.
func Records(t testing.TB, path string) (offsets []int64) {
	t.Helper()
	buf, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := 0
	for at < len(buf) {
		offsets = append(offsets, int64(at))
		at += int(binary.LittleEndian.Uint32(buf[at:]) &^ (1 << 31))
	}
	return append(offsets, int64(at))
}

// CutBack takes the last n records from a stream's last block, as a power cut does that comes before they are synced.
func CutBack(t testing.TB, dir, stream string, n int) {
	t.Helper()
	blocks := Blocks(t, dir, stream)
	last := blocks[len(blocks)-1]
	offsets := Records(t, last)
	if len(offsets) <= n {
		t.Fatalf("%s has only %d records", last, len(offsets)-1)
	}
	if err := os.Truncate(last, offsets[len(offsets)-1-n]); err != nil {
		t.Fatal(err)
	}
}

// RemoveIndex removes what the server has noted of a stream's blocks.
func RemoveIndex(t testing.TB, dir, stream string) {
	t.Helper()
	if err := os.Remove(filepath.Join(filepath.Dir(Blocks(t, dir, stream)[0]), "index.db")); err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
}

// FlipBit turns one bit of a file over.
func FlipBit(t testing.TB, path string, bit int64) {
	t.Helper()
	buf, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	buf[bit/8] ^= 1 << (bit % 8)
	if err := os.WriteFile(path, buf, 0o600); err != nil {
		t.Fatal(err)
	}
}

// CopyFolder copies the folder of a server, also of one that runs: what the copy holds then is what a server that is
// killed at that moment leaves.
func CopyFolder(t testing.TB, dir string) (to string) {
	t.Helper()
	to = t.TempDir()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		target := filepath.Join(to, strings.TrimPrefix(path, dir))
		if d.IsDir() {
			return os.MkdirAll(target, 0o700)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(target, text, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	return to
}
