package files

import (
	"errors"
	"io/fs"
	"syscall"
	"testing"

	"github.com/hark-jobs/hark/jobs"
)

// A full disk, or a quota, is a full store; other errors are not.
func TestStoreError(t *testing.T) {
	for cause, want := range map[error]bool{syscall.ENOSPC: true, syscall.EDQUOT: true, syscall.EACCES: false} {
		err := storeError(&fs.PathError{Op: "write", Path: "f", Err: cause})
		if got := errors.Is(err, jobs.ErrStoreFull); got != want || !errors.Is(err, cause) {
			t.Errorf("%v: got %v, want ErrStoreFull %v", cause, err, want)
		}
	}
}
