package joblog

import (
	"context"
	"strconv"
	"time"

	"github.com/hark-jobs/hark/jobs"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// liveSeq returns the stream sequence of a live message, or 0.
func liveSeq(m *nats.Msg) uint64 {
	v := m.Header[jetstream.SequenceHeader]
	if len(v) == 0 {
		return 0
	}
	seq, _ := strconv.ParseUint(v[len(v)-1], 10, 64) // the server adds its own after what a publisher may have set
	return seq
}

// Wait blocks until the job has ended, at most for d, and returns its latest version, never one older than job.
func (q *Store) Wait(ctx context.Context, job jobs.Job, d time.Duration) (jobs.Job, error) {
	latest, err := q.waitUntil(ctx, job.User, job.ID, job.Revision, d, func(latest *jobs.Job) bool { return latest.State.Terminal() })
	if latest.ID == "" {
		return job, err
	}
	return latest, err
}

// WaitForChange blocks until the job has a later revision than since, or has ended, at most for d, and returns its
// latest version.
func (q *Store) WaitForChange(ctx context.Context, user, id string, since uint64, d time.Duration) (jobs.Job, error) {
	return q.waitUntil(ctx, user, id, since, d, func(latest *jobs.Job) bool {
		return latest.Revision > since || latest.State.Terminal()
	})
}

// waitUntil reads a job, in revision since or later, until done returns true, at most for d.
func (q *Store) waitUntil(ctx context.Context, user, id string, since uint64, d time.Duration, done func(*jobs.Job) bool) (jobs.Job, error) {
	live := make(chan *nats.Msg, 16)
	sub, err := q.nc.ChanSubscribe(q.ns.LiveStateSubject(user, id), live)
	if err != nil {
		return jobs.Job{}, err
	}
	defer sub.Unsubscribe()
	over := time.NewTimer(d)
	defer over.Stop()
	// Live messages can be lost, so the state is polled as well.
	look := time.NewTicker(time.Second)
	defer look.Stop()
	for revision := since; ; {
		latest, err := q.getSince(ctx, user, id, revision)
		if err != nil || done(&latest) {
			return latest, err
		}
		select {
		case m := <-live:
			revision = max(revision, liveSeq(m))
		case <-look.C:
		case <-over.C:
			return latest, nil
		case <-ctx.Done():
			return latest, ctx.Err()
		}
	}
}
