package hark

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/hark-jobs/hark/internal/health"
	"github.com/hark-jobs/hark/internal/natsd"
)

// readOnly is the error of a folder that cannot be written to.
func readOnly(what string, reason error) error {
	return &Error{Code: "data_read_only", Message: fmt.Sprintf("%s cannot be written to: %v. Make it writable for this user, or name another folder with Options.Data.", what, reason)}
}

// checkWritable copies the data folder if it cannot be written to, and makes the copy what this process works on: JetStream
// and SQLite do not start on a folder that they cannot write to. The copy ends with the process.
func (s *Server) checkWritable() error {
	f, err := os.CreateTemp(s.options.Data, "writable-*")
	if err == nil {
		f.Close()
		os.Remove(f.Name())
	}
	if !errors.Is(err, syscall.EROFS) && !errors.Is(err, os.ErrPermission) {
		return nil // other errors, such as a full disk, are reported by later steps
	}
	original := s.options.Data
	reason := readOnly("The data folder "+original, errors.Unwrap(err))
	if _, err := os.Stat(filepath.Join(original, "nats", "jetstream")); err != nil || !s.options.notifies() || !s.options.embeds() {
		return reason // there is nothing to serve
	}
	folder, size, err := s.copyData(original)
	if err != nil {
		return errors.Join(reason, err)
	}
	s.options.Data, s.options.NATSListen = folder, ""
	s.copied = true
	s.health.Add(health.Check{Part: "data", Check: func(context.Context) error { return natsd.ErrReadOnly }, Public: publicQueue})
	s.log.Error("the data folder cannot be written to: serving a copy of it; nothing is stored, and no jobs are run",
		"folder", original, "err", errors.Unwrap(reason), "copy", folder, "bytes", size)
	return nil
}

// copyData copies a folder to a temporary one, and returns that and the number of bytes. The copy may take three quarters of the
// free space.
func (s *Server) copyData(from string) (to string, size int64, err error) {
	err = filepath.WalkDir(from, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		info, err := entry.Info()
		if err == nil {
			size += info.Size()
		}
		return err
	})
	if err != nil {
		return "", 0, fmt.Errorf("hark: data folder: %w", err)
	}
	if free := natsd.Room(os.TempDir()); size > free/4*3 {
		return "", 0, &Error{Code: "data_read_only", Message: fmt.Sprintf("The data folder %s cannot be written to, and a copy of its %d bytes does not fit in %s, where %d are free. "+
			"Make it writable for this user, or name a larger folder for temporary files with TMPDIR.", from, size, os.TempDir(), free)}
	}
	if to, err = os.MkdirTemp("", "hark-read-only-*"); err != nil {
		return "", 0, fmt.Errorf("hark: copy of the data folder: %w", err)
	}
	s.onStop(func(context.Context) {
		if err := os.RemoveAll(to); err != nil {
			s.log.Warn("deleting the copy of the data folder failed", "err", err)
		}
	})
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		return "", 0, fmt.Errorf("hark: copy of the data folder: %w", err)
	}
	return to, size, nil
}
