// Package workertest runs the handler of a kind in a unit test: one attempt, in the test's own process, without NATS, and with
// typed params. For a test of the whole system see package harktest.
//
//	func TestReport(t *testing.T) {
//		got := workertest.Run(t, Report, report, Params{Pages: 2})
//		if got.State != jobs.Succeeded || string(got.Content) != "two pages" {
//			t.Errorf("got %s with %q, want succeeded with two pages", got.State, got.Content)
//		}
//	}
package workertest

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/worker"
)

// Result is what an attempt left.
type Result struct {
	// State is what becomes of the job: succeeded, failed, cancelled, retrying, or queued if the worker stopped.
	State jobs.State
	// Job is the job as a worker would write it, with its result, its file and the error that its user sees.
	Job jobs.Job
	// Err is the error that the handler returned; nil if there was none. A panic is a [*worker.PanicError].
	Err error
	// Progress is all progress that was reported, in order.
	Progress []jobs.Progress
	// File describes the file that the handler wrote, also where the attempt did not succeed; nil without one. Content is what
	// is in it.
	File    *jobs.File
	Content []byte
}

// Option changes the attempt that [Run] makes.
type Option func(*attempt)

type attempt struct {
	ctx     context.Context
	job     jobs.Job
	claims  map[string]any
	options []worker.Option
	space   int64
}

// Context is the context of the attempt. To cancel it with [worker.ErrCancelled] as the cause is what a user's cancel does.
// Defaults to the context of the test.
func Context(ctx context.Context) Option { return func(a *attempt) { a.ctx = ctx } }

// User is whose job it is. Defaults to "ana".
func User(user string) Option { return func(a *attempt) { a.job.User = user } }

// Claims are the claims that the kind declares, of the requester's token. Defaults to none.
func Claims(claims map[string]any) Option { return func(a *attempt) { a.claims = claims } }

// Attempt is which attempt of the job it is, from 1. Defaults to 1.
func Attempt(n int) Option { return func(a *attempt) { a.job.Attempt = n } }

// FileSpace is how many bytes the job's user has left for a file. Defaults to no limit.
func FileSpace(bytes int64) Option { return func(a *attempt) { a.space = bytes } }

// Handler sets options of the handler, such as [worker.Timeout].
func Handler(options ...worker.Option) Option { return func(a *attempt) { a.options = options } }

// Run runs one attempt of the handler fn, blocks until fn returns, and returns what it left. Params are checked as those of a job
// are when it is enqueued: the defaults of the kind are filled in, and params that would be refused end the test.
func Run[P any](t testing.TB, kind jobs.Definition[P], fn func(context.Context, *worker.Job, P) (jobs.Result, error), params P, options ...Option) Result {
	t.Helper()
	if err := kind.Err(); err != nil {
		t.Fatalf("workertest: %v", err)
	}
	k := kind.Kind()
	raw, err := kind.Encode(params)
	if err == nil {
		raw, err = k.Check(raw)
	}
	if err != nil {
		t.Fatalf("workertest: a job with these params is refused: %v", err)
	}
	now := time.Now().UTC().Truncate(time.Millisecond)
	a := attempt{ctx: t.Context(), space: -1, job: jobs.Job{
		ID: "01JD0000000000000000000000", Kind: k.Name, Title: k.JobTitle(raw), User: "ana", State: jobs.Running, Attempt: 1,
		MaxAttempts: k.MaxAttempts, CreatedAt: now, StartedAt: now, Run: 1, Worker: "workertest",
	}}
	for _, option := range options {
		option(&a)
	}
	h := &host{space: a.space}
	job, err := worker.Handle(kind, fn, a.options...).Try(a.ctx, worker.Trial{
		Job: a.job, Params: raw, Claims: a.claims, Host: h, Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	h.mu.Lock()
	defer h.mu.Unlock()
	return Result{State: job.State, Job: job, Err: err, Progress: slices.Clone(h.progress), File: h.file, Content: h.content}
}

// host keeps in memory what a worker stores.
type host struct {
	space int64 // bytes left for a file; negative means no limit

	mu       sync.Mutex
	progress []jobs.Progress
	stored   []byte // not described yet
	file     *jobs.File
	content  []byte
}

// SetProgress implements [worker.Host].
func (h *host) SetProgress(p jobs.Progress) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.progress = append(h.progress, p)
}

// StoreFile implements [worker.Host].
func (h *host) StoreFile(ctx context.Context, r io.Reader) (int64, error) {
	if err := h.FileRoom(ctx); err != nil {
		return 0, err
	}
	limited := r
	if h.space >= 0 {
		limited = io.LimitReader(r, h.space+1)
	}
	var b bytes.Buffer
	n, err := b.ReadFrom(limited)
	if err != nil {
		return 0, err
	}
	if h.space >= 0 && n > h.space {
		return 0, &jobs.UserFullError{Limit: h.space}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stored = b.Bytes()
	return n, nil
}

// SetFile implements [worker.Host].
func (h *host) SetFile(f *jobs.File) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.file, h.content = f, h.stored
	return nil
}

// FileRoom implements [worker.Host].
func (h *host) FileRoom(context.Context) error {
	if h.space == 0 {
		return &jobs.UserFullError{}
	}
	return nil
}
