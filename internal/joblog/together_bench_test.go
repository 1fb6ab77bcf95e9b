package joblog

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/hark-jobs/hark/internal/natstest"
	"github.com/hark-jobs/hark/jobs"
	"github.com/nats-io/nats.go"
)

// BenchmarkEnd writes the ends of jobs, each with its notification: as an atomic batch and as two writes, on one server
// and on three, for one caller and for 16.
func BenchmarkEnd(b *testing.B) {
	for _, replicas := range []int{1, 3} {
		for _, callers := range []int{1, 16} {
			for _, batch := range []bool{false, true} {
				b.Run(fmt.Sprintf("replicas=%d/callers=%d/batch=%v", replicas, callers, batch), func(b *testing.B) {
					benchmarkEnd(b, replicas, callers, batch)
				})
			}
		}
	}
}

func benchmarkEnd(b *testing.B, replicas, callers int, batch bool) {
	var nc *nats.Conn
	if replicas > 1 {
		nc = natstest.Cluster(b, replicas).Connect(b)
	} else {
		nc = natstest.Connect(b)
	}
	ctx := b.Context()
	q, err := Open(ctx, nc, Options{Settings: Settings{Replicas: replicas}})
	if err != nil {
		b.Fatal(err)
	}
	defer q.Close()
	var left atomic.Int64
	left.Store(int64(b.N))
	var all sync.WaitGroup
	b.ResetTimer()
	for i := range callers {
		all.Go(func() {
			for left.Add(-1) >= 0 {
				job := jobs.Job{ID: newID(), User: fmt.Sprintf("user-%d", i), Kind: "k", Title: "A report", State: jobs.Succeeded, Run: 1, Attempt: 1}
				var err error
				if batch {
					err = q.putEnd(ctx, &job, 0)
				} else if job.Revision, err = q.PutState(ctx, &job, 0); err == nil {
					err = q.announce(ctx, &job)
				}
				if err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "ends/s")
}
