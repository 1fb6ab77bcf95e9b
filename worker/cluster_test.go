package worker_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hark-jobs/hark/internal/joblog"
	"github.com/hark-jobs/hark/internal/natstest"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/worker"
)

// On three servers one of which lags each retry runs, although the replica that a worker asks may not have it yet when it is
// delivered, and each end has one notification, although the server may be busy with the write before.
func TestRetriesOnCluster(t *testing.T) {
	t.Parallel()
	servers := natstest.BreakableCluster(t, 3)
	q, err := joblog.Open(natstest.Context(t), servers.ConnectTo(t, 0), joblog.Options{Settings: joblog.Settings{Replicas: 3}})
	if err != nil {
		t.Fatal(err)
	}
	servers.Lead(0)
	servers.Lag(2, 200*time.Millisecond) // jobs come as late, when it leads the consumer
	b := &bench{t, q}
	var runs atomic.Int32
	b.start(worker.Options{Handlers: []worker.Handler{worker.Handle(jobs.Define[none](jobs.Kind{Name: "fail"}), func(context.Context, *worker.Job, none) (jobs.Result, error) {
		runs.Add(1)
		return jobs.Result{}, worker.Fail(errors.New("as it was wanted"))
	}, worker.Concurrency(16), worker.PerUser(16))}})
	const n, retries = 12, 3
	var ids []string
	for range n {
		ids = append(ids, b.enqueue(jobs.Request{Kind: "fail"}).ID)
	}
	for run := 1; ; run++ {
		for _, id := range ids {
			b.await(id, func(j jobs.Job) bool { return j.Run == run && j.State == jobs.Failed })
		}
		if run > retries {
			break
		}
		for _, id := range ids {
			if _, err := q.Retry(natstest.Context(t), "ana", id, nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got := runs.Load(); got != n*(retries+1) {
		t.Errorf("%d runs, want %d", got, n*(retries+1))
	}
	b.await(ids[0], func(jobs.Job) bool { return len(b.notes()) >= n*(retries+1) })
	if got := len(b.notes()); got != n*(retries+1) {
		t.Errorf("%d notifications, want %d", got, n*(retries+1))
	}
}
