package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
)

// Put writes where a job stands, provided that its last state message is the one with sequence expected
// (0: there is none yet). It returns the new sequence, which is the job's revision from then on, or
// [ErrConflict].
func (q *Queue) Put(ctx context.Context, job *Job, expected uint64) (uint64, error) {
	stored := *job
	stored.Revision = 0
	body, err := json.Marshal(&stored)
	if err != nil {
		return 0, fmt.Errorf("jobs: put state: %w", err)
	}
	header := expectLast(0)
	if expected > 0 {
		header = replaceLast(expected)
	}
	ack, err := q.writes.publish(ctx, &nats.Msg{Subject: stateSubject(job.User, job.ID), Header: header, Data: body})
	if isConflict(err) {
		return 0, ErrConflict
	}
	if err != nil {
		return 0, fmt.Errorf("jobs: put state: %w", err)
	}
	return ack.seq, nil
}

// Finish takes a job to a terminal state and tells its user: steps two and three of the commit rule. The
// file, step one, must be stored by then. It returns the job as it was written, or [ErrConflict] if it
// was not. Any other error may come after the state was written; redelivery repairs that with [Queue.Repair].
func (q *Queue) Finish(ctx context.Context, job Job, to State, expected uint64) (Job, error) {
	job.State = to
	job.FinishedAt = time.Now().UTC().Truncate(time.Millisecond)
	job.RetryAt, job.CancelRequested = time.Time{}, false
	if job.File != nil {
		file := *job.File
		file.ExpiresAt = job.FinishedAt.Add(time.Duration(q.fileAge.Load()))
		job.File = &file
	}
	revision, err := q.Put(ctx, &job, expected)
	if err != nil {
		return job, err
	}
	job.Revision = revision
	if err := q.After(StateWritten, &job); err != nil {
		return job, err
	}
	return job, q.announce(ctx, &job)
}

// announce publishes the notification of a terminal state. It goes through only while that state is the
// job's last word: whoever writes the state later takes the telling over.
func (q *Queue) announce(ctx context.Context, job *Job) error {
	_, err := q.publishNote(ctx, job.User, job.notification(),
		expectLastOn(stateSubject(job.User, job.ID), job.Revision))
	if err != nil && !isConflict(err) {
		return err
	}
	return q.After(NotePublished, job)
}

// Repair repeats the telling of a job that was found in a terminal state by whoever its message was
// delivered to again. It may be called any number of times and by several at once: the user is told
// once, however long ago the first try was.
func (q *Queue) Repair(ctx context.Context, order *Order, orderSeq uint64) error {
	var job Job
	for {
		s, err := q.ReadLeader(ctx, order.User, order.ID)
		if err != nil {
			return err
		}
		if !s.Job.State.Terminal() || s.Job.Run != order.Run {
			return nil
		}
		// Writing the state again shuts out everybody else who is about to tell: from here on only this
		// revision may. Then the log says whether it was told before.
		job = s.Job
		if job.Revision, err = q.Put(ctx, &job, s.StateSeq); err == nil {
			break
		}
		if !errors.Is(err, ErrConflict) { // another one repairs, and may die of it
			return err
		}
	}
	told, err := q.hasNote(ctx, job.User, job.notification().Key, orderSeq)
	if err != nil || told {
		return err
	}
	return q.announce(ctx, &job)
}

// notification is what the user is told when the job has ended.
func (j *Job) notification() Notification {
	n := Notification{
		Key: j.ID + "." + string(j.State), Type: "job." + string(j.State), Title: j.Title,
		JobID: j.ID, CreatedAt: j.FinishedAt,
	}
	if j.Run > 1 {
		n.Key += fmt.Sprintf(".%d", j.Run)
	}
	if j.Error != nil {
		n.Body = j.Error.Message
	}
	switch j.State {
	case Succeeded:
		n.Title, n.Body = j.Title+" is done", j.Progress.Message
		if j.File != nil {
			n.Title, n.Link = j.Title+" is ready", "/v1/jobs/"+j.ID+"/file"
		}
	case Failed:
		n.Title += " failed"
	case Cancelled:
		n.Title += " was cancelled"
	}
	return n
}
