package worker

import (
	"context"
	"fmt"
	"io"
	"log/slog"

	"github.com/hark-jobs/hark/jobs"
)

// Job is a running job in the hands of its handler. Its methods are safe for concurrent use until the
// handler returns.
type Job struct {
	jobs.Job // as it stood when the attempt began
	// Claims are the claims that the kind declares ([Claims]), of the verified token with which the job was enqueued, as
	// encoding/json decodes them with UseNumber.
	Claims map[string]any
	Log    *slog.Logger // says which job and attempt it is about

	lease *lease
}

// Progress says how far the job has come; total is 0 while it is not known. It does not block: the newest
// word is written a few times a second.
func (j *Job) Progress(done, total int64, message string) {
	j.lease.setProgress(jobs.Progress{Done: done, Total: total, Message: message})
}

// WriteFile stores what write writes as the file that the job leaves behind, under the name that it gets
// when it is downloaded. It blocks until all of it is stored; if write or the store fails, nothing is kept.
// A job has one file: the last one written counts. The user gets it if the attempt succeeds.
func (j *Job) WriteFile(ctx context.Context, name, contentType string, write func(io.Writer) error) error {
	r, w := io.Pipe()
	go func() { w.CloseWithError(write(w)) }()
	size, err := j.lease.queue.StoreFile(ctx, &j.Job, r)
	r.CloseWithError(err) // lets write end, if the store failed first
	if err != nil {
		return fmt.Errorf("worker: write file: %w", err)
	}
	if err := j.lease.queue.After(jobs.FileStored, &j.Job); err != nil {
		return err
	}
	j.lease.setFile(&jobs.File{Name: name, Size: size, ContentType: contentType})
	return nil
}
