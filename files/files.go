// Package files says where the files that jobs leave are stored. By default they are in JetStream, beside the log. A [Folder]
// is for large files, and for one machine or machines that share a file system:
//
//	folder, err := files.OpenFolder("/srv/hark-files", files.FolderOptions{})
//	srv, err := hark.New(ctx, hark.Options{Files: folder, …})
//
// All notifiers and workers must use the same store: workers write the files, and notifiers read and delete them.
package files

import (
	"context"
	"io"
	"time"

	"github.com/hark-jobs/hark/jobs"
)

// Store stores files. Each lease of a job has a file of its own, named by the user, the job's id, and its Run, Attempt and
// Lost: a worker that has lost its lease cannot overwrite the file of its successor. Earlier leases of a job are those with
// lower numbers, compared in this order.
//
// Methods must be safe for concurrent use, from several processes, and end with their context. Errors that callers look for
// are those of package jobs, as each method says; all others are retried or logged.
type Store interface {
	// Put stores the bytes of r as the file of the job's lease, and returns their number. When it returns without an
	// error, the file is whole and survives a crash. After an error nothing of it is left, as far as the store can be
	// reached. It also removes the files of earlier leases.
	//
	// It returns a [*jobs.UserFullError] if the file does not fit among those of the user: before it reads r if there is
	// no room at all. It returns [jobs.ErrStoreFull] if the store has no room. An error of r is returned unchanged, or
	// wrapped.
	Put(ctx context.Context, job *jobs.Job, r io.Reader) (size int64, err error)
	// Room returns a [*jobs.UserFullError] if there is no room for any file of the job's user.
	Room(ctx context.Context, job *jobs.Job) error
	// Open returns the file of the job's lease, which has job.File.Size bytes, or [jobs.ErrFileGone]. The reader is for
	// one goroutine, and ends with ctx.
	Open(ctx context.Context, job *jobs.Job) (io.ReadSeekCloser, error)
	// Delete deletes the files of the job's lease and of earlier ones, also unfinished ones. It never deletes that of a
	// later lease. It needs no room in the store. It returns nil if there are none.
	Delete(ctx context.Context, job *jobs.Job) error
	// Sweep deletes the files of earlier leases of the job.
	Sweep(ctx context.Context, job *jobs.Job) error
	// Expire deletes the files that were stored before a time, also unfinished ones.
	Expire(ctx context.Context, before time.Time) error
}
