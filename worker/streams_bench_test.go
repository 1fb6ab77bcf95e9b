package worker_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hark-jobs/hark/internal/joblog"
	"github.com/hark-jobs/hark/internal/natstest"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/queue"
	"github.com/hark-jobs/hark/worker"
)

// BenchmarkStreams stores notifications, and runs jobs from their enqueueing to their end, with one stream of the log and with
// four: of 1,000 users, 32 at a time, on one NATS server and on three with as many replicas.
func BenchmarkStreams(b *testing.B) {
	for _, servers := range []int{1, 3} {
		for _, streams := range []int{1, 4} {
			b.Run(fmt.Sprintf("servers=%d/streams=%d", servers, streams), func(b *testing.B) {
				b.Run("notifications", func(b *testing.B) { benchmarkNotify(b, openBench(b, servers, streams)) })
				b.Run("jobs", func(b *testing.B) { benchmarkJobs(b, openBench(b, servers, streams)) })
			})
		}
	}
}

func openBench(b *testing.B, servers, streams int) *joblog.Store {
	b.Helper()
	var nc *nats.Conn
	if servers == 1 {
		nc = natstest.Connect(b)
	} else {
		nc = natstest.Cluster(b, servers).Connect(b)
	}
	q, err := joblog.Open(natstest.Context(b), nc, joblog.Options{Settings: joblog.Settings{Streams: streams, Replicas: servers}})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { q.Close() })
	return q
}

// atATime calls do for each number below n on 32 goroutines.
func atATime(b *testing.B, n int, do func(ctx context.Context, user string) error) {
	var next atomic.Int64
	var all sync.WaitGroup
	for range 32 {
		all.Go(func() {
			for i := next.Add(1); i <= int64(n); i = next.Add(1) {
				if err := do(b.Context(), fmt.Sprint("user-", i%1000)); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
}

func benchmarkNotify(b *testing.B, q *joblog.Store) {
	b.ResetTimer()
	began := time.Now()
	atATime(b, b.N, func(ctx context.Context, user string) error {
		_, _, err := q.Notify(ctx, user, jobs.Notification{Type: "t", Title: "Your order is on its way"})
		return err
	})
	b.ReportMetric(float64(b.N)/time.Since(began).Seconds(), "notifications/s")
}

func benchmarkJobs(b *testing.B, q *joblog.Store) {
	kind := jobs.Define[none](jobs.Kind{Name: "nothing"})
	var ran sync.WaitGroup
	ran.Add(b.N)
	w, err := worker.New(worker.Options{Queue: queue.New(q), Observer: counts{&ran}, Handlers: []worker.Handler{
		worker.Handle(kind, func(context.Context, *worker.Job, none) (jobs.Result, error) { return jobs.Result{}, nil }, worker.Concurrency(32))}})
	if err == nil {
		err = w.PublishKinds(natstest.Context(b))
	}
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { w.Run(ctx) })
	defer running.Wait()
	defer stop()
	b.ResetTimer()
	began := time.Now()
	atATime(b, b.N, func(ctx context.Context, user string) error {
		_, _, err := q.Enqueue(ctx, jobs.Request{Kind: "nothing", User: user})
		return err
	})
	ran.Wait()
	b.ReportMetric(float64(b.N)/time.Since(began).Seconds(), "jobs/s")
}

// counts is an observer that counts the jobs that have ended.
type counts struct{ ended *sync.WaitGroup }

func (counts) Started(*jobs.Job) {}
func (c counts) Ended(_ *jobs.Job, end worker.End) {
	if end.State.Terminal() {
		c.ended.Done()
	}
}
