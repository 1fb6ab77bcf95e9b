package files_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hark-jobs/hark/files"
	"github.com/hark-jobs/hark/jobs"
)

// What every store does is tested in internal/joblog (TestFileStores). Here is what is a folder's own.

func open(t *testing.T, dir string, o files.FolderOptions) *files.Folder {
	t.Helper()
	f, err := files.OpenFolder(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func job(user, id string, attempt int) *jobs.Job {
	return &jobs.Job{ID: id, User: user, Run: 1, Attempt: attempt}
}

// names returns the paths of all files below dir, and fails the test if others than their owner may read them.
func names(t *testing.T, dir string) (list []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has the mode %v; others may read it", path, info.Mode())
		}
		if !entry.IsDir() {
			list = append(list, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// Files are the owner's alone, under names that say neither the user's name nor anything that a path could abuse, and an
// empty folder of a job goes.
func TestFolderLayout(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	f := open(t, dir, files.FolderOptions{})
	if _, err := f.Put(t.Context(), job("../../etc ana", "J1", 1), strings.NewReader("text")); err != nil {
		t.Fatal(err)
	}
	list := names(t, dir)
	if len(list) != 1 || !strings.HasSuffix(list[0], "/J1/1-1-0") || strings.Contains(list[0], "ana") {
		t.Errorf("the folder has %q", list)
	}
	for _, id := range []string{"../J1", "..", ".", "", "/J1", `a\b`, "a/b"} {
		if _, err := f.Put(t.Context(), job("ana", id, 1), strings.NewReader("text")); err == nil {
			t.Errorf("the id %q was taken", id)
		}
		if _, err := f.Open(t.Context(), job("ana", id, 1)); err == nil || errors.Is(err, jobs.ErrFileGone) {
			t.Errorf("the id %q: %v", id, err)
		}
	}
	if err := f.Delete(t.Context(), job("../../etc ana", "J1", 1)); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Dir(list[0])); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the folder of the job is still there: %v", err)
	}
}

// The rest of a file whose process died counts for its user, until the next lease of the job removes it, or it expires.
func TestFolderUnfinished(t *testing.T) {
	dir := t.TempDir()
	f := open(t, dir, files.FolderOptions{UserSpace: 100})
	if _, err := f.Put(t.Context(), job("ana", "J1", 1), bytes.NewReader(make([]byte, 60))); err != nil {
		t.Fatal(err)
	}
	left := names(t, dir)[0] + ".tmp-DEAD"
	if err := os.Rename(names(t, dir)[0], left); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Put(t.Context(), job("ana", "J2", 1), bytes.NewReader(make([]byte, 60))); !errors.Is(err, jobs.ErrUserFull) {
		t.Errorf("got %v, want ErrUserFull: 60 bytes are taken", err)
	}
	if _, err := f.Put(t.Context(), job("ana", "J1", 2), bytes.NewReader(make([]byte, 60))); err != nil {
		t.Errorf("the next lease of the job: %v", err)
	}
	if _, err := os.Stat(left); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the rest is still there: %v", err)
	}
}

func TestFolderExpires(t *testing.T) {
	dir := t.TempDir()
	f := open(t, dir, files.FolderOptions{})
	for _, id := range []string{"OLD", "NEW"} {
		if _, err := f.Put(t.Context(), job("ana", id, 1), strings.NewReader(id)); err != nil {
			t.Fatal(err)
		}
	}
	now := time.Now()
	for _, name := range names(t, dir) {
		if strings.Contains(name, "OLD") {
			if err := os.Chtimes(name, now, now.Add(-2*time.Hour)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := f.Expire(t.Context(), now.Add(-time.Hour)); err != nil {
		t.Error(err)
	}
	if list := names(t, dir); len(list) != 1 || !strings.Contains(list[0], "NEW") {
		t.Errorf("the folder has %q, want the new file alone", list)
	}
	if _, err := f.Open(t.Context(), job("ana", "OLD", 1)); !errors.Is(err, jobs.ErrFileGone) {
		t.Errorf("got %v, want ErrFileGone", err)
	}
}

// A folder that cannot be made or written to, and a limit that is none, are refused at once.
func TestOpenFolderFails(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, o := range map[string]files.FolderOptions{file: {}, filepath.Join(file, "below"): {}, t.TempDir(): {UserSpace: -1}} {
		if _, err := files.OpenFolder(path, o); err == nil {
			t.Errorf("%s with %+v was opened", path, o)
		}
	}
}
