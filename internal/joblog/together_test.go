package joblog_test

import (
	"context"
	"errors"
	"testing"

	"github.com/hark-jobs/hark/internal/joblog"
	"github.com/hark-jobs/hark/internal/natstest"
	"github.com/hark-jobs/hark/jobs"
)

// A job's end and its notification are one atomic batch where messages are replicated, and two writes where they are not.
func TestEndIsOneBatchWithReplicas(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name     string
		replicas int
		batch    bool
	}{{"one", 1, false}, {"three", 3, true}} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			q := endable(t, test.replicas)
			job, seq := runningJob(t, q)
			ended, err := q.Finish(natstest.Context(t), job, jobs.Succeeded, seq)
			if err != nil {
				t.Fatal(err)
			}
			state, notification := lastMessage(t, q, defaultNS.StateSubject("ana", job.ID)), lastMessage(t, q, defaultNS.NotificationSubject("ana"))
			if state.Seq != ended.Revision || notification.Seq != state.Seq+1 {
				t.Errorf("revision %d, state %d, notification %d", ended.Revision, state.Seq, notification.Seq)
			}
			for _, m := range []joblog.Last{state, notification} {
				if got := m.Header.Get("Nats-Batch-Id") != ""; got != test.batch {
					t.Errorf("%s is in a batch: %v", m.Subject, got)
				}
			}
			if got, err := q.Get(natstest.Context(t), "ana", job.ID); err != nil || got.State != jobs.Succeeded || got.Revision != ended.Revision {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
}

// A worker that has lost its lease stores neither the state nor the notification.
func TestEndAfterALostLeaseStoresNothing(t *testing.T) {
	t.Parallel()
	q, ctx := endable(t, 3), natstest.Context(t)
	job, seq := runningJob(t, q)
	if _, err := q.PutState(ctx, &job, seq); err != nil { // another worker
		t.Fatal(err)
	}
	before := lastMessage(t, q, defaultNS.LogSubjects())
	if _, err := q.Finish(ctx, job, jobs.Succeeded, seq); !errors.Is(err, joblog.ErrConflict) {
		t.Errorf("error %v", err)
	}
	if after := lastMessage(t, q, defaultNS.LogSubjects()); after.Seq != before.Seq {
		t.Errorf("stored %s, sequence %d after %d", after.Subject, after.Seq, before.Seq)
	}
}

// The server refuses a batch for another reason than the lease: the end is stored in two writes. A notification that was
// published before stays the only one.
func TestEndWithoutABatch(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		prepare func(ctx context.Context, t *testing.T, q *joblog.Store, job jobs.Job)
	}{
		{"its notification was published before", func(ctx context.Context, t *testing.T, q *joblog.Store, job jobs.Job) {
			job.State = jobs.Succeeded
			if _, _, err := q.Notify(ctx, "ana", job.EndNotification()); err != nil {
				t.Fatal(err)
			}
		}},
		{"batches are switched off", func(ctx context.Context, t *testing.T, q *joblog.Store, _ jobs.Job) {
			stream, err := q.JetStream().Stream(ctx, defaultNS.LogStream())
			if err != nil {
				t.Fatal(err)
			}
			config := stream.CachedInfo().Config
			config.AllowAtomicPublish = false
			if _, err := q.JetStream().UpdateStream(ctx, config); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			q, ctx := endable(t, 3), natstest.Context(t)
			job, seq := runningJob(t, q)
			test.prepare(ctx, t, q, job)
			if _, err := q.Finish(ctx, job, jobs.Succeeded, seq); err != nil {
				t.Fatal(err)
			}
			if got, err := q.Get(ctx, "ana", job.ID); err != nil || got.State != jobs.Succeeded {
				t.Errorf("%+v, %v", got, err)
			}
			if n := countNotifications(t, q); n != 1 {
				t.Errorf("%d notifications", n)
			}
		})
	}
}

// endable returns a store with the kind k, on a cluster if there is more than one replica.
func endable(t *testing.T, replicas int) *joblog.Store {
	t.Helper()
	nc := natstest.Connect
	if replicas > 1 {
		nc = natstest.Cluster(t, replicas).Connect
	}
	q, _ := open(t, nc(t), joblog.Settings{Replicas: replicas})
	if err := q.PublishKind(natstest.Context(t), jobs.Kind{Name: "k", Title: "K", MaxAttempts: 1}); err != nil {
		t.Fatal(err)
	}
	return q
}

// runningJob returns a running job of ana and the sequence of its state.
func runningJob(t *testing.T, q *joblog.Store) (jobs.Job, uint64) {
	t.Helper()
	ctx := natstest.Context(t)
	job, _, err := q.Enqueue(ctx, jobs.Request{User: "ana", Kind: "k"})
	if err != nil {
		t.Fatal(err)
	}
	job.State, job.Attempt = jobs.Running, 1
	seq, err := q.PutState(ctx, &job, 0)
	if err != nil {
		t.Fatal(err)
	}
	return job, seq
}

// lastMessage returns the last message on a subject.
func lastMessage(t *testing.T, q *joblog.Store, subject string) joblog.Last {
	t.Helper()
	m, err := q.LastOnLeader(natstest.Context(t), subject)
	if err != nil {
		t.Fatal(err)
	}
	return m
}
