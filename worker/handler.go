package worker

import (
	"context"
	"fmt"
	"time"

	"github.com/hark-jobs/hark/jobs"
)

// Handler is the code that runs the jobs of a kind, and its settings. [Handle] makes one.
type Handler struct {
	kind        jobs.Kind
	kindErr     error
	concurrency int
	perUser     int // limit of concurrent jobs of one user; 0 means half of concurrency
	timeout     time.Duration
	backoff     func(attempt int) time.Duration
	run         Func
}

// Func runs one attempt of a job. The params are those of [Job.Params].
type Func func(ctx context.Context, job *Job) (jobs.Result, error)

// Middleware wraps a handler's Func, to act before or after an attempt, or to change its error. It is called once for
// each kind. The function that it returns is called once for each attempt, from several goroutines at once.
type Middleware func(next Func) Func

// Handle makes fn the handler of a kind.
//
// fn runs on a goroutine of its own, for several jobs at once. Its context ends when the job is cancelled, the lease is
// lost, the timeout has passed, or the worker stops; [context.Cause] says which. If fn returns nil, the job succeeds. An
// error or a panic is a failed attempt; [Fail], [Cancel], [Snooze] and [Error] give it another meaning. A job whose
// params do not fit into P fails with the code params_invalid.
func Handle[P any](kind jobs.Definition[P], fn func(ctx context.Context, job *Job, params P) (jobs.Result, error), options ...Option) Handler {
	h := Handler{
		kind: kind.Kind(), kindErr: kind.Err(), concurrency: 8, backoff: DefaultBackoff,
		run: func(ctx context.Context, job *Job) (jobs.Result, error) {
			params, err := kind.Decode(job.Params)
			if err != nil {
				return jobs.Result{}, Fail(&Error{"params_invalid", "The job's params are not what its worker expects.", err})
			}
			return fn(ctx, job, params)
		},
	}
	for _, option := range options {
		option(&h)
	}
	return h
}

// Option is a setting of a handler.
type Option func(*Handler)

// Concurrency sets how many jobs of the kind run at once in this worker. Defaults to 8.
func Concurrency(n int) Option { return func(h *Handler) { h.concurrency = n } }

// PerUser sets how many jobs of one user this worker runs at once. Further jobs wait, and other users' jobs run first.
// Defaults to half of [Concurrency], and at least one.
func PerUser(n int) Option { return func(h *Handler) { h.perUser = n } }

// MaxWaiting sets how many jobs of the kind one user may have waiting; the notifier refuses further ones. 0 means no
// limit. Defaults to the kind's own.
func MaxWaiting(n int) Option { return func(h *Handler) { h.kind.MaxWaiting = n } }

// Timeout ends the context of an attempt that takes longer, with [ErrTimeout] as the cause. Defaults to no limit.
func Timeout(d time.Duration) Option { return func(h *Handler) { h.timeout = d } }

// Backoff sets the delay after a failed attempt; attempts count from 1. Defaults to [DefaultBackoff].
func Backoff(f func(attempt int) time.Duration) Option { return func(h *Handler) { h.backoff = f } }

// check returns an error if a setting is invalid.
func (h *Handler) check() error {
	switch {
	case h.run == nil:
		return fmt.Errorf("kind %s: make its handler with worker.Handle", h.kind.Name)
	case h.kindErr != nil:
		return h.kindErr
	case h.concurrency < 1:
		return fmt.Errorf("kind %s: the concurrency must be at least 1", h.kind.Name)
	case h.perUser < 0 || h.kind.MaxWaiting < 0:
		return fmt.Errorf("kind %s: a limit per user is negative", h.kind.Name)
	}
	return nil
}
