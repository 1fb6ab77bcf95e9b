package worker_test

import (
	"context"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hark-jobs/hark/internal/joblog"
	"github.com/hark-jobs/hark/internal/natstest"
	"github.com/hark-jobs/hark/internal/polltest"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/worker"
	"github.com/nats-io/nats.go"
)

// After a worker dies between any two steps of the commit rule, another one completes the job: it succeeds, its file is
// there, its user is notified once, and the handler does not run again after the end was written.
func TestCrashBetweenSteps(t *testing.T) {
	for step, wantRuns := range map[joblog.Step]int32{
		joblog.FileStored:   3, // it crashes twice, each time before anything is written
		joblog.StateWritten: 1, joblog.NotificationPublished: 1, joblog.Acked: 1,
	} {
		t.Run(string(step), func(t *testing.T) { crashAfter(t, step, wantRuns, natstest.Connect(t), joblog.Options{}) })
	}
	// With replicas the state and the notification are one step.
	cluster := natstest.Cluster(t, 3)
	for step, wantRuns := range map[joblog.Step]int32{joblog.FileStored: 3, joblog.NotificationPublished: 1, joblog.Acked: 1} {
		o := joblog.Options{Settings: joblog.Settings{Replicas: 3}, Location: joblog.Location{Namespace: joblog.Namespace(strings.ReplaceAll(string(step), " ", "-"))}}
		t.Run("with replicas/"+string(step), func(t *testing.T) { crashAfter(t, step, wantRuns, cluster.Connect(t), o) })
	}
}

func crashAfter(t *testing.T, step joblog.Step, wantRuns int32, nc *nats.Conn, o joblog.Options) {
	var crashes, runs atomic.Int32
	o.Lease = time.Second
	o.SimulateCrash = func(s joblog.Step, _ *jobs.Job) bool {
		return s == step && crashes.Add(1) <= 2 // the repair crashes too
	}
	b := newBenchOn(t, nc, o)
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
	b.acked(b.queue.Namespace().LogStream(), "write")
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
}

// acked waits until a stream has no job of a kind that is to be delivered or acked.
func (b *bench) acked(stream, kind string) {
	b.Helper()
	polltest.Until(b, "the jobs are acked", func() bool {
		c, err := b.queue.JetStream().Consumer(natstest.Context(b), stream, b.queue.Namespace().WorkerConsumer(kind))
		if err != nil {
			b.Fatal(err)
		}
		info := c.CachedInfo()
		return info.NumAckPending == 0 && info.NumPending == 0
	})
}
