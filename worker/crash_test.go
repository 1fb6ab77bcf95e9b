package worker_test

import (
	"context"
	"io"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hark-jobs/hark/internal/joblog"
	"github.com/hark-jobs/hark/internal/natstest"
	"github.com/hark-jobs/hark/internal/polltest"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/worker"
)

// A worker that dies between any two steps of the commit rule is stood in for: the job succeeds, its file
// is there, its user is notified once, and once the end is written the handler does not run again.
func TestCrashBetweenSteps(t *testing.T) {
	for step, wantRuns := range map[joblog.Step]int32{
		joblog.FileStored:   3, // it crashes twice, each time before anything is written
		joblog.StateWritten: 1, joblog.NotificationPublished: 1, joblog.Acked: 1,
	} {
		t.Run(string(step), func(t *testing.T) {
			var crashes, runs atomic.Int32
			b := newBenchWith(t, joblog.Options{Settings: joblog.Settings{Lease: time.Second}, SimulateCrash: func(s joblog.Step, _ *jobs.Job) bool {
				return s == step && crashes.Add(1) <= 2 // the repair crashes too
			}})
			b.start(worker.Options{Handlers: []worker.Handler{worker.Handle(jobs.Define[none](jobs.Kind{Name: "write"}),
				func(ctx context.Context, job *worker.Job, _ none) (jobs.Result, error) {
					runs.Add(1)
					return jobs.Result{}, job.WriteFile(ctx, "a.txt", "text/plain", func(w io.Writer) error {
						_, err := io.WriteString(w, "hello")
						return err
					})
				})}})
			id := b.enqueue(jobs.Request{Kind: "write"}).ID
			job := b.await(id, in(jobs.Succeeded))
			b.told("job.succeeded")
			b.acked()
			b.told("job.succeeded")
			if runs.Load() != wantRuns {
				t.Errorf("the handler ran %d times, want %d", runs.Load(), wantRuns)
			}
			f, err := b.queue.OpenFile(natstest.Context(t), &job)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if text, err := io.ReadAll(f); err != nil || string(text) != "hello" {
				t.Errorf("file %q, %v", text, err)
			}
		})
	}
}

// acked waits until no delivery of the kind write is open any more.
func (b *bench) acked() {
	b.Helper()
	polltest.Until(b, "the job is acked", func() bool {
		c, err := b.queue.JetStream().Consumer(natstest.Context(b), defaultNS.LogStream(), defaultNS.WorkerConsumer("write"))
		if err != nil {
			b.Fatal(err)
		}
		info := c.CachedInfo()
		return info.NumAckPending == 0 && info.NumPending == 0
	})
}
