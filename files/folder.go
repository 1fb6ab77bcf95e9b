package files

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/hark-jobs/hark/jobs"
)

// FolderOptions are the options of [OpenFolder].
type FolderOptions struct {
	// UserSpace is how many bytes the files of one user may take together. Defaults to 5 GiB.
	UserSpace int64
}

const (
	defaultUserSpace = 5 << 30
	// measureEvery is how many bytes are written before the files of the user are measured again: others of them may be
	// written at the same time.
	measureEvery = 16 << 20
	// unfinished stands between the name of a file and a random text while it is written.
	unfinished = ".tmp-"
)

// Folder is a [Store] in a folder of a file system, which may be shared by several machines (NFS, for instance):
//
//	<folder>/<user>/<job id>/<run>-<attempt>-<lost>
//
// <user> is the beginning of the SHA-256 of the user's name, in hex. A file is written under another name, synced, and renamed
// when it is whole. The folders of users, and what is in them, can be read by the process's user alone.
//
// There is no other record: what a user's files take is what is in the user's folder. Nothing outside hark should write there;
// deleting from outside is safe.
type Folder struct {
	root  string
	limit int64 // of a user, in bytes
}

// OpenFolder returns a store in a folder, and creates the folder. It returns an error if the folder cannot be written to.
func OpenFolder(path string, o FolderOptions) (*Folder, error) {
	if o.UserSpace < 0 {
		return nil, errors.New("files: the space of a user is negative")
	}
	if o.UserSpace == 0 {
		o.UserSpace = defaultUserSpace
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("files: %w", err)
	}
	probe, err := os.CreateTemp(path, "writable"+unfinished)
	if err != nil {
		return nil, fmt.Errorf("files: %w", err)
	}
	defer os.Remove(probe.Name())
	return &Folder{root: path, limit: o.UserSpace}, probe.Close()
}

// userFolder is the folder of a user. Its name has a fixed length, whatever characters the user's has.
func (f *Folder) userFolder(user string) string {
	sum := sha256.Sum256([]byte(user))
	return filepath.Join(f.root, hex.EncodeToString(sum[:16]))
}

// jobFolder is the folder of a job.
func (f *Folder) jobFolder(job *jobs.Job) (string, error) {
	if !filepath.IsLocal(job.ID) || job.ID == "." || strings.ContainsAny(job.ID, `/\`) {
		return "", fmt.Errorf("files: %q is not the id of a job", job.ID)
	}
	return filepath.Join(f.userFolder(job.User), job.ID), nil
}

// lease is the name of the file of a job's lease.
func lease(job *jobs.Job) string { return fmt.Sprintf("%d-%d-%d", job.Run, job.Attempt, job.Lost) }

// compareLease compares the lease at the beginning of the name of a file, finished or not, with that of a job: -1 is an
// earlier one.
func compareLease(name string, job *jobs.Job) (int, bool) {
	var run, attempt, lost int
	if n, err := fmt.Sscanf(name, "%d-%d-%d", &run, &attempt, &lost); err != nil || n != 3 {
		return 0, false
	}
	return slices.Compare([]int{run, attempt, lost}, []int{job.Run, job.Attempt, job.Lost}), true
}

// Put implements [Store].
func (f *Folder) Put(ctx context.Context, job *jobs.Job, r io.Reader) (size int64, err error) {
	dir, err := f.jobFolder(job)
	if err != nil {
		return 0, err
	}
	if err := f.Room(ctx, job); err != nil {
		return 0, err
	}
	path := filepath.Join(dir, lease(job))
	file, err := create(path + unfinished + rand.Text())
	if err != nil {
		return 0, storeError(err)
	}
	defer func() {
		if err != nil {
			_ = file.Close()
			_ = os.Remove(file.Name())
			_ = os.Remove(dir) // if it is empty
		}
	}()
	if size, err = f.copy(ctx, job, file, r); err != nil {
		return 0, err
	}
	if err = errors.Join(file.Sync(), file.Close()); err != nil {
		return 0, storeError(err)
	}
	if err = os.Rename(file.Name(), path); err != nil {
		return 0, storeError(err)
	}
	// The names are synced from the bottom up: those of a new user and job are needed to find the file.
	for _, d := range []string{dir, filepath.Dir(dir), f.root} {
		if err := syncFolder(d); err != nil {
			return 0, storeError(errors.Join(err, os.Remove(path)))
		}
	}
	return size, nil
}

// create creates a file and the folders that it is in. Another process may remove them while they are empty.
func create(path string) (file *os.File, err error) {
	for range 10 {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return nil, err
		}
		file, err = os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	return file, err
}

// copy writes the bytes of r, while they fit among the files of the user.
func (f *Folder) copy(ctx context.Context, job *jobs.Job, file *os.File, r io.Reader) (size int64, err error) {
	buffer := make([]byte, 128<<10)
	for next := int64(measureEvery); ; {
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		n, err := r.Read(buffer)
		if n > 0 {
			if _, err := file.Write(buffer[:n]); err != nil {
				return 0, storeError(err)
			}
			size += int64(n)
		}
		if size >= next || err == io.EOF {
			// What is written counts. Of two files that end at the same time, at least one counts the other.
			if full := f.fits(job, 0); full != nil {
				return 0, full
			}
			next = size + measureEvery
		}
		switch {
		case err == io.EOF:
			return size, nil
		case err != nil:
			return 0, err
		}
	}
}

// storeError returns the error of a write to the folder as [Store] has it.
func storeError(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return errors.Join(jobs.ErrStoreFull, err)
	}
	return fmt.Errorf("files: %w", err)
}

func syncFolder(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Room implements [Store].
func (f *Folder) Room(ctx context.Context, job *jobs.Job) error {
	if err := f.Sweep(ctx, job); err != nil {
		return err
	}
	return f.fits(job, 1)
}

// fits returns a [*jobs.UserFullError] if there is no room for more bytes of the job's user. An earlier file of the job's
// lease, which the next one replaces, does not count.
func (f *Folder) fits(job *jobs.Job, more int64) error {
	replaced := filepath.Join(f.userFolder(job.User), job.ID, lease(job))
	taken := int64(0)
	err := walk(f.userFolder(job.User), func(path string, info fs.FileInfo) error {
		if path != replaced {
			taken += info.Size()
		}
		return nil
	})
	if err != nil {
		return err
	}
	if taken+more > f.limit {
		return &jobs.UserFullError{Limit: f.limit}
	}
	return nil
}

// walk calls do for each file in a folder, which may vanish meanwhile, as may any file.
func walk(root string, do func(path string, info fs.FileInfo) error) error {
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			var info fs.FileInfo
			if info, err = entry.Info(); err == nil {
				err = do(path, info)
			}
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("files: %w", err)
	}
	return nil
}

// Open implements [Store].
func (f *Folder) Open(ctx context.Context, job *jobs.Job) (io.ReadSeekCloser, error) {
	dir, err := f.jobFolder(job)
	if err != nil {
		return nil, err
	}
	file, err := os.Open(filepath.Join(dir, lease(job)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, jobs.ErrFileGone
	}
	if err != nil {
		return nil, fmt.Errorf("files: %w", err)
	}
	return &reader{ctx: ctx, File: file}, nil
}

// reader is a file whose reads end with a context.
type reader struct {
	ctx context.Context
	*os.File
}

func (r *reader) Read(p []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	return r.File.Read(p)
}

// Delete implements [Store].
func (f *Folder) Delete(_ context.Context, job *jobs.Job) error { return f.remove(job, 0) }

// Sweep implements [Store].
func (f *Folder) Sweep(_ context.Context, job *jobs.Job) error { return f.remove(job, -1) }

// remove removes the files of a job whose lease compares with that of job as latest, or as an earlier one.
func (f *Folder) remove(job *jobs.Job, latest int) error {
	dir, err := f.jobFolder(job)
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, entry := range entries {
		if order, ok := compareLease(entry.Name(), job); !ok || order > latest {
			continue
		}
		if gone := os.Remove(filepath.Join(dir, entry.Name())); !errors.Is(gone, fs.ErrNotExist) {
			err = errors.Join(err, gone)
		}
	}
	if err != nil {
		return fmt.Errorf("files: %w", err)
	}
	_ = os.Remove(dir) // if it is empty
	return nil
}

// Expire implements [Store]. It blocks while it reads the names of all files.
func (f *Folder) Expire(ctx context.Context, before time.Time) error {
	return walk(f.root, func(path string, info fs.FileInfo) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if !info.ModTime().Before(before) {
			return nil
		}
		if err := os.Remove(path); err != nil {
			return err
		}
		_ = os.Remove(filepath.Dir(path)) // the folder of a job, if it is empty
		return nil
	})
}
