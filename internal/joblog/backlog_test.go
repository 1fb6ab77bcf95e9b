package joblog_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/hark-jobs/hark/internal/joblog"
	"github.com/hark-jobs/hark/internal/natstest"
	"github.com/hark-jobs/hark/jobs"
)

// What a user has waiting is counted by kind, whichever queue has enqueued it and whatever becomes of it.
func TestBacklogs(t *testing.T) {
	nc := natstest.Connect(t)
	var queues [2]*joblog.Store
	for i := range queues {
		var err error
		if queues[i], err = joblog.Open(natstest.Context(t), nc, joblog.Options{}); err != nil {
			t.Fatal(err)
		}
	}
	q := queues[0]
	for _, kind := range []string{"a", "b"} {
		if err := q.PublishKind(natstest.Context(t), jobs.Kind{Name: kind, MaxAttempts: 3}); err != nil {
			t.Fatal(err)
		}
	}
	enqueue := func(q *joblog.Store, user, kind string) jobs.Job {
		t.Helper()
		job, _, err := q.Enqueue(natstest.Context(t), jobs.Request{User: user, Kind: kind})
		if err != nil {
			t.Fatal(err)
		}
		return job
	}
	b := joblog.NewBacklogs(q)
	want := func(what, user, kind string, n int) {
		t.Helper()
		got, err := b.Count(natstest.Context(t), user, kind, 1000)
		if err != nil || got != n {
			t.Errorf("%s: %s has %d of %s, %v; want %d", what, user, got, kind, err, n)
		}
	}
	put := func(job *jobs.Job, state jobs.State, seq uint64) uint64 {
		t.Helper()
		job.State = state
		seq, err := q.PutState(natstest.Context(t), job, seq)
		if err != nil {
			t.Fatal(err)
		}
		return seq
	}
	enqueue(q, "ana", "a")
	want("what was there before", "ana", "a", 0)
	want("another user", "a.b", "a", 0)
	one, two := enqueue(q, "ana", "a"), enqueue(queues[1], "ana", "a")
	enqueue(queues[1], "ana", "b")
	enqueue(q, "a.b", "a")
	want("enqueued by two queues", "ana", "a", 2)
	want("another kind", "ana", "b", 1)
	want("another user", "a.b", "a", 1)
	seq := put(&one, jobs.Running, 0)
	want("one runs", "ana", "a", 1)
	seq = put(&one, jobs.Retrying, seq)
	want("it waits for its next attempt", "ana", "a", 2)
	if _, err := q.Finish(natstest.Context(t), one, jobs.Failed, seq); err != nil {
		t.Fatal(err)
	}
	if _, err := q.Cancel(natstest.Context(t), "ana", two.ID); err != nil {
		t.Fatal(err)
	}
	want("both have ended", "ana", "a", 0)
	if _, err := q.Retry(natstest.Context(t), "ana", one.ID, nil); err != nil {
		t.Fatal(err)
	}
	want("one is retried by hand", "ana", "a", 1)
	for i := range 600 { // more than one read returns
		enqueue(q, "ana", "a")
		if i == 300 {
			if _, _, err := q.Notify(natstest.Context(t), "ana", jobs.Notification{Type: "x", Title: fmt.Sprint(i)}); err != nil {
				t.Fatal(err)
			}
		}
	}
	want("many", "ana", "a", 601)
	dead, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.Count(dead, "ana", "a", 1000); err == nil {
		t.Error("counted without a context")
	}
}
