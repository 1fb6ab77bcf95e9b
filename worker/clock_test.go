package worker_test

import (
	"context"
	"testing"
	"time"

	"github.com/hark-jobs/hark/internal/natstest"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/worker"
)

// A retry that was put off by seconds, with a clock that is an hour ahead of this one, comes after seconds. One that is
// really due later waits.
func TestRetryOfAClockThatWentBack(t *testing.T) {
	b := newBench(t)
	if err := b.queue.PublishKind(natstest.Context(t), jobs.Kind{Name: "k", Open: true, MaxAttempts: 3}); err != nil {
		t.Fatal(err)
	}
	put := func(at time.Time, delay time.Duration) string {
		t.Helper()
		job := b.enqueue(jobs.Request{Kind: "k"})
		job.State, job.Attempt, job.RetryAt, job.RetryDelay = jobs.Retrying, 1, at, delay
		if _, err := b.queue.PutState(natstest.Context(t), &job, 0); err != nil {
			t.Fatal(err)
		}
		return job.ID
	}
	later := put(time.Now().Add(time.Hour), 2*time.Hour)
	due := put(time.Now().Add(time.Hour), 4*time.Second)
	b.start(worker.Options{Handlers: []worker.Handler{worker.Handle(jobs.Define[none](jobs.Kind{Name: "k"}), func(context.Context, *worker.Job, none) (jobs.Result, error) {
		return jobs.Result{}, nil
	})}})
	if job := b.await(due, in(jobs.Succeeded)); job.Attempt != 2 {
		t.Errorf("%+v", job)
	}
	if job, err := b.queue.Get(natstest.Context(t), "ana", later); err != nil || job.State != jobs.Retrying {
		t.Errorf("%+v, %v", job, err)
	}
}
