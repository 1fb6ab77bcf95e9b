package joblog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/hark-jobs/hark/jobs"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// PutState writes a job's state if its last state message still has the sequence expected (compare-and-swap); 0 means
// that there must be none. It returns the new sequence, which is the job's new revision, or [ErrConflict]. Texts longer
// than [jobs.MaxTextChars] are cut.
func (q *Store) PutState(ctx context.Context, job *jobs.Job, expected uint64) (uint64, error) {
	m, err := q.stateMessage(job, expected)
	if err != nil {
		return 0, err
	}
	ack, err := q.writes.publish(ctx, m)
	if isConflict(err) {
		return 0, ErrConflict
	}
	if err != nil {
		return 0, fmt.Errorf("joblog: put state: %w", err)
	}
	return ack.seq, nil
}

// stateMessage returns the message of [Store.PutState].
func (q *Store) stateMessage(job *jobs.Job, expected uint64) (*nats.Msg, error) {
	stored := *job
	stored.Revision = 0
	stored.Fit()
	body, err := json.Marshal(&stored)
	if err != nil {
		return nil, fmt.Errorf("joblog: put state: %w", err)
	}
	header := expectLast(0)
	if expected > 0 {
		header = replaceLast(expected)
	}
	return &nats.Msg{Subject: q.ns.StateSubject(job.User, job.ID), Header: header, Data: body}, nil
}

// Finish moves a job to a terminal state and notifies its user: steps two and three of the commit rule. The file, step
// one, must be stored before. Finish returns the job as it was written, or [ErrConflict] if it was not. After any other
// error the state may have been written; redelivery repairs that with [Store.EnsureNotified].
//
// Where the stream has replicas, both are one atomic batch, which costs what one write costs there. Without replicas a
// batch costs several times as much as two writes, since the server syncs it (nats-server 2.15.2, file storage).
func (q *Store) Finish(ctx context.Context, job jobs.Job, to jobs.State, expected uint64) (jobs.Job, error) {
	job.Fit()
	job.State = to
	job.FinishedAt = time.Now().UTC().Truncate(time.Millisecond)
	job.RetryAt, job.RetryDelay, job.CancelRequested = time.Time{}, 0, false
	if job.File != nil {
		file := *job.File
		file.ExpiresAt = job.FinishedAt.Add(time.Duration(q.fileAge.Load()))
		job.File = &file
	}
	if q.replicas.Load() > 1 {
		err := q.putEnd(ctx, &job, expected)
		var refused *jetstream.APIError
		if !errors.As(err, &refused) {
			return job, err
		}
		// Nothing was stored. A write of its own says which of the two the server refuses. Both pass if the notification was
		// published before, since a batch must not have a known message id.
	}
	revision, err := q.PutState(ctx, &job, expected)
	if err != nil {
		return job, err
	}
	job.Revision = revision
	if err := q.AfterStep(StateWritten, &job); err != nil {
		return job, err
	}
	return job, q.announce(ctx, &job)
}

// putEnd writes a terminal state as [Store.PutState] does, together with its notification, and sets the job's revision.
// After a [*jetstream.APIError] nothing is stored.
func (q *Store) putEnd(ctx context.Context, job *jobs.Job, expected uint64) error {
	state, err := q.stateMessage(job, expected)
	if err != nil {
		return err
	}
	notification, err := q.notificationMessage(job.User, job.EndNotification(), make(nats.Header, 4))
	if err != nil {
		return err
	}
	ack, err := q.writes.publishTogether(ctx, state, notification)
	if isConflict(err) {
		return ErrConflict
	}
	if err != nil {
		return fmt.Errorf("joblog: put the end: %w", err)
	}
	job.Revision = ack.seq - 1
	return q.AfterStep(NotificationPublished, job)
}

// announce publishes the notification of a terminal state. The publish is conditional on the state's revision. On a
// conflict announce returns nil: the later writer of the state is responsible for the notification.
func (q *Store) announce(ctx context.Context, job *jobs.Job) error {
	_, err := q.publishNotification(ctx, job.User, job.EndNotification(),
		expectLastOn(q.ns.StateSubject(job.User, job.ID), job.Revision))
	if err != nil && !isConflict(err) {
		return err
	}
	return q.AfterStep(NotificationPublished, job)
}

// EnsureNotified publishes the notification of an ended job if it is missing. Workers call it for a job that is delivered
// again after its end. It is idempotent and safe to call from several processes at once: the user is notified once, however
// long ago the first try was.
func (q *Store) EnsureNotified(ctx context.Context, spec *Spec, specSeq uint64) error {
	var job jobs.Job
	for {
		s, err := q.ReadLeader(ctx, spec.User, spec.Kind, spec.ID)
		if err != nil {
			return err
		}
		if !s.Job.State.Terminal() || s.Job.Run != spec.Run {
			return nil
		}
		// Writing the state again bumps its revision, which fences every other worker that is about to notify. After that
		// the log shows whether the user was notified before.
		job = s.Job
		if job.Revision, err = q.PutState(ctx, &job, s.StateSeq); err == nil {
			break
		}
		if !errors.Is(err, ErrConflict) { // after a conflict, read again: the other writer may die before it notifies
			return err
		}
	}
	notified, err := q.hasNotification(ctx, job.User, job.EndNotification().Key, specSeq)
	if err != nil || notified {
		return err
	}
	return q.announce(ctx, &job)
}
