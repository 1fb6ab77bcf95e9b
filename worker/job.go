package worker

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"runtime/debug"
	"sync"

	"github.com/hark-jobs/hark/jobs"
)

// Job is a running job, as its handler gets it. Its methods are safe for concurrent use until the handler returns.
type Job struct {
	jobs.Job // at the begin of the attempt
	// Claims are the claims that the kind declares, from the verified token with which the job was enqueued, as
	// encoding/json decodes them with UseNumber.
	Claims map[string]any
	// Params are the params of the job as JSON.
	Params json.RawMessage
	Log    *slog.Logger // has the job and the attempt as attributes

	host Host
}

// Host is the environment of an attempt: a worker, or a test of the handler (see package workertest). Its methods are
// safe for concurrent use.
type Host interface {
	// SetProgress sets the progress of the job. It does not block.
	SetProgress(p jobs.Progress)
	// StoreFile stores what r yields as the file of the attempt, and returns its size in bytes. After an error nothing is stored.
	StoreFile(ctx context.Context, r io.Reader) (size int64, err error)
	// SetFile describes the file that was stored last.
	SetFile(f *jobs.File) error
	// FileRoom returns a [*jobs.UserFullError] if there is no room for any file.
	FileRoom(ctx context.Context) error
}

// Progress reports the progress of the job; total is 0 while it is not known. It does not block: the latest progress is
// written at most four times a second. A message of more than [jobs.MaxTextChars] is cut.
func (j *Job) Progress(done, total int64, message string) {
	j.host.SetProgress(jobs.Progress{Done: done, Total: total, Message: message})
}

// WriteFile stores the file of the job, under the name that it has when it is downloaded. It calls write on
// another goroutine, and blocks until everything is stored. If write or the store fails, nothing is stored. A panic in
// write is an error of WriteFile.
//
// A job has one file: the last one written counts. The user gets it if the attempt succeeds.
//
// If the file does not fit among the files of the user, the error is a [*jobs.UserFullError]. A handler that returns it
// fails the job with no further attempt. If there is no room at all, write is not called; [Job.FileRoom] checks that
// earlier. A name or content type of more than [jobs.MaxFileNameBytes] is an error too, and write is not called.
func (j *Job) WriteFile(ctx context.Context, name, contentType string, write func(io.Writer) error) error {
	if len(name) > jobs.MaxFileNameBytes || len(contentType) > jobs.MaxFileNameBytes {
		return fmt.Errorf("worker: write file: the name and the content type may have %d bytes each; they have %d and %d",
			jobs.MaxFileNameBytes, len(name), len(contentType))
	}
	r, w := io.Pipe()
	begin := sync.OnceFunc(func() { go func() { w.CloseWithError(j.call(write, w)) }() })
	size, err := j.host.StoreFile(ctx, readerFunc(func(p []byte) (int, error) {
		begin() // only now: before, there may be no room for the file
		return r.Read(p)
	}))
	r.CloseWithError(err) // ends write, if the store failed first
	if err != nil {
		return fmt.Errorf("worker: write file: %w", err)
	}
	return j.host.SetFile(&jobs.File{Name: name, Size: size, ContentType: contentType})
}

// call calls write and recovers a panic, which would otherwise end the process: write does not run on the handler's
// goroutine.
func (j *Job) call(write func(io.Writer) error, w io.Writer) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{v, debug.Stack()}
			j.Log.Error("handler panicked while writing its file", "panic", v, "stack", string(debug.Stack()))
		}
	}()
	return write(w)
}

// FileRoom returns a [*jobs.UserFullError] if there is no room for any file of the job's user. A handler that works for
// long before it writes its file should call it first. It blocks for a few round trips.
func (j *Job) FileRoom(ctx context.Context) error { return j.host.FileRoom(ctx) }

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
