package worker_test

import (
	"context"
	"io"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/worker"
)

// A worker that dies between any two steps of the commit rule is stood in for: the job succeeds, its file
// is there, its user is told once, and once the end is written the handler does not run again.
func TestCrashBetweenSteps(t *testing.T) {
	for step, wantRuns := range map[jobs.Step]int32{
		jobs.FileStored:   3, // it crashes twice, each time before anything is written
		jobs.StateWritten: 1, jobs.NotePublished: 1, jobs.Acked: 1,
	} {
		t.Run(string(step), func(t *testing.T) {
			var crashes, runs atomic.Int32
			b := newBenchWith(t, jobs.Config{Settings: jobs.Settings{Lease: time.Second}, Crash: func(s jobs.Step, _ *jobs.Job) bool {
				return s == step && crashes.Add(1) <= 2 // the repair crashes too
			}})
			b.start(worker.Options{Handlers: []worker.Handler{worker.Handle("write",
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
			f, err := b.queue.OpenFile(t.Context(), &job)
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
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		c, err := b.queue.JetStream().Consumer(b.Context(), jobs.StreamName, "worker-write")
		if err != nil {
			b.Fatal(err)
		}
		if info, err := c.Info(b.Context()); err == nil && info.NumAckPending == 0 && info.NumPending == 0 {
			return
		}
	}
	b.Fatal("the job is never acked")
}
