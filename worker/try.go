package worker

import (
	"context"
	"encoding/json"
	"log/slog"
	"sync"

	"github.com/hark-jobs/hark/jobs"
)

// Trial is an attempt outside of a worker. Job and Host are required.
type Trial struct {
	Job    jobs.Job
	Params json.RawMessage
	Claims map[string]any
	Host   Host
	Logger *slog.Logger // Defaults to slog.Default().
}

// Try runs one attempt on the goroutine of the caller, without NATS, and blocks until the handler returns. It returns
// the job as a worker would write it, and the error of the handler. Package workertest is easier to use.
func (h Handler) Try(ctx context.Context, t Trial) (jobs.Job, error) {
	if err := h.check(); err != nil {
		return t.Job, err
	}
	if t.Logger == nil {
		t.Logger = slog.Default()
	}
	host := &tryHost{Host: t.Host}
	ctx, cancel := h.limit(ctx)
	defer cancel()
	result, err := h.call(ctx, &Job{Job: t.Job, Params: t.Params, Claims: t.Claims, Log: t.Logger, host: host})
	host.mu.Lock()
	defer host.mu.Unlock()
	job := t.Job
	job.Progress = host.progress
	return h.decide(job, host.file, attemptResult{result, err, context.Cause(ctx)}).job, err
}

// tryHost keeps the latest progress and file.
type tryHost struct {
	Host

	mu       sync.Mutex
	progress jobs.Progress
	file     *jobs.File
}

// SetProgress implements [Host].
func (h *tryHost) SetProgress(p jobs.Progress) {
	h.mu.Lock()
	h.progress = p
	h.mu.Unlock()
	h.Host.SetProgress(p)
}

// SetFile implements [Host].
func (h *tryHost) SetFile(f *jobs.File) error {
	if err := h.Host.SetFile(f); err != nil {
		return err
	}
	h.mu.Lock()
	h.file = f
	h.mu.Unlock()
	return nil
}
