package worker_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/worker"
)

// ends is an observer that keeps the ends of attempts.
type ends struct {
	mu      sync.Mutex
	started []string
	ended   []worker.End
}

func (e *ends) Started(job *jobs.Job) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.started = append(e.started, job.ID)
}

func (e *ends) Ended(_ *jobs.Job, end worker.End) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.ended = append(e.ended, end)
}

// An observer gets each attempt with the state that was written and the error that users do not see.
func TestObserver(t *testing.T) {
	b := newBench(t)
	private := errors.New("the printer burns")
	observer := new(ends)
	stop := b.start(worker.Options{Observer: observer, Handlers: []worker.Handler{
		worker.Handle(jobs.Define[none](jobs.Kind{Name: "print", MaxAttempts: 2}), func(context.Context, *worker.Job, none) (jobs.Result, error) {
			return jobs.Result{}, private
		}, worker.Backoff(quick)),
		worker.Handle(jobs.Define[none](jobs.Kind{Name: "panic", MaxAttempts: 1}), func(context.Context, *worker.Job, none) (jobs.Result, error) {
			panic("boom")
		}),
	}})
	failed := b.await(b.enqueue(jobs.Request{Kind: "print"}).ID, in(jobs.Failed))
	panicked := b.await(b.enqueue(jobs.Request{Kind: "panic"}).ID, in(jobs.Failed))
	stop() // the observer is called after the state is written

	if want := []string{failed.ID, failed.ID, panicked.ID}; !slices.Equal(observer.started, want) {
		t.Errorf("got starts of %v, want %v", observer.started, want)
	}
	if len(observer.ended) != 3 {
		t.Fatalf("got %d ends, want 3: %+v", len(observer.ended), observer.ended)
	}
	for i, state := range []jobs.State{jobs.Retrying, jobs.Failed} {
		if end := observer.ended[i]; end.State != state || !errors.Is(end.Err, private) || end.Cause != nil || end.Took <= 0 {
			t.Errorf("attempt %d: got %+v, want %s with the error of the handler", i+1, end, state)
		}
	}
	var boom *worker.PanicError
	if end := observer.ended[2]; end.State != jobs.Failed || !errors.As(end.Err, &boom) || boom.Value != "boom" || len(boom.Stack) == 0 {
		t.Errorf("after a panic got %+v", end)
	}
}

// Middleware wraps all handlers, the first outermost, and can change what they return.
func TestMiddleware(t *testing.T) {
	b := newBench(t)
	var mu sync.Mutex
	var order []string
	note := func(what string) {
		mu.Lock()
		defer mu.Unlock()
		order = append(order, what)
	}
	named := func(name string) worker.Middleware {
		return func(next worker.Func) worker.Func {
			return func(ctx context.Context, job *worker.Job) (jobs.Result, error) {
				note(name + " before " + string(job.Params))
				result, err := next(ctx, job)
				note(name + " after")
				if name == "outer" && err != nil {
					err = worker.Fail(&worker.Error{Code: "wrapped", Message: "It was wrapped.", Err: err})
				}
				return result, err
			}
		}
	}
	stop := b.start(worker.Options{Middleware: []worker.Middleware{named("outer"), named("inner")}, Handlers: []worker.Handler{
		worker.Handle(jobs.Define[map[string]int](jobs.Kind{Name: "count"}), func(context.Context, *worker.Job, map[string]int) (jobs.Result, error) {
			note("handler")
			return jobs.Result{}, errors.New("no")
		}),
	}})
	job := b.await(b.enqueue(jobs.Request{Kind: "count", Params: []byte(`{"n":1}`)}).ID, in(jobs.Failed))
	stop()
	if want := []string{`outer before {"n":1}`, `inner before {"n":1}`, "handler", "inner after", "outer after"}; !slices.Equal(order, want) {
		t.Errorf("got %q, want %q", order, want)
	}
	if job.Error.Code != "wrapped" || job.Attempt != 1 {
		t.Errorf("got %+v in attempt %d, want the error of the middleware in attempt 1", job.Error, job.Attempt)
	}
}
