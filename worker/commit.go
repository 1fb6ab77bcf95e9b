package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/hark-jobs/hark/jobs"
)

// verdict is what becomes of an attempt: the job as it is to be written, and how its message is answered.
type verdict struct {
	job   jobs.Job
	again bool          // the message is handed back, and not acked
	delay time.Duration // until then at least
}

// ending is how an attempt ended: what its handler returned, and why its context had ended by then, if it had.
type ending struct {
	result jobs.Result
	err    error
	cause  error
}

// judge decides what becomes of an attempt.
func (l *lease) judge(h *Handler, e ending) verdict {
	v := verdict{job: l.job}
	v.job.Worker = ""
	if p := l.takeProgress(); p != nil {
		v.job.Progress = *p
	}
	var snooze *snoozeError
	var cancelled *cancelError
	var failed *failError
	switch {
	case e.err == nil:
		v.job.State, v.job.File, v.job.Error = jobs.Succeeded, l.file, nil
		if e.result.Summary != "" {
			v.job.Progress.Message = e.result.Summary
		}
		if e.result.Value != nil {
			value, err := json.Marshal(e.result.Value)
			if err != nil {
				l.log.Error("job's result is no JSON; the job succeeds without", "err", err)
			}
			v.job.Result = value
		}
	case l.job.CancelRequested || errors.Is(e.cause, ErrCancelled):
		v.job.State, v.job.Error = jobs.Cancelled, &jobs.Error{Code: "cancelled", Message: "Cancelled while it ran."}
	case errors.As(e.err, &cancelled):
		v.job.State, v.job.Error = jobs.Cancelled, publicError(cancelled.err, e.cause)
	case errors.Is(e.cause, ErrStopping):
		v.job.State, v.again = jobs.Queued, true
		v.job.Attempt--
		v.job.StartedAt, v.job.Progress = time.Time{}, jobs.Progress{}
	case errors.As(e.err, &snooze):
		v.job.State, v.again, v.delay = jobs.Retrying, true, snooze.delay
		v.job.Attempt--
	case l.job.Attempt >= l.job.MaxAttempts || errors.As(e.err, &failed):
		v.job.State, v.job.Error = jobs.Failed, publicError(e.err, e.cause)
	default:
		v.job.State, v.again, v.delay = jobs.Retrying, true, h.backoff(l.job.Attempt)
		v.job.Error = publicError(e.err, e.cause)
	}
	if v.job.State == jobs.Retrying {
		v.job.RetryAt = time.Now().Add(v.delay).UTC().Truncate(time.Millisecond)
	}
	return v
}

// commit writes the verdict, answers the message, and returns the state that was written. It tries for as long as the server cannot be
// reached, until ctx ends; a verdict that was not written by then is found missing by the next worker,
// which runs the job again.
func (l *lease) commit(ctx context.Context, judge func() verdict) (jobs.State, error) {
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, 2*time.Second) {
		v := judge()
		err := l.put(ctx, &v)
		if errors.Is(err, jobs.ErrConflict) {
			err = l.resolve(ctx)
			if err == nil {
				continue // a cancel had arrived; judge again
			}
		}
		switch {
		case err == nil && v.again:
			return v.job.State, l.handBack(ctx, v.delay)
		case err == nil || errors.Is(err, errDone):
			if err := l.delivery.ack(); err != nil {
				return v.job.State, err
			}
			return v.job.State, l.queue.After(jobs.Acked, &v.job)
		case errors.Is(err, ErrLeaseLost), errors.Is(err, jobs.ErrCrashed):
			return "", err
		}
		l.log.Warn("job's end not written yet", "err", err)
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("worker: commit: %w", err)
		case <-time.After(pause):
		}
		if err := l.delivery.renew(); err != nil {
			l.log.Warn("lease not renewed", "err", err)
		}
	}
}

// handBack gives the job to whoever is free: after delay, or at once.
func (l *lease) handBack(ctx context.Context, delay time.Duration) error {
	if delay <= 0 {
		err := l.queue.Requeue(ctx, &l.delivery.order, l.delivery.seq)
		if err == nil {
			return l.delivery.ack()
		}
		l.log.Warn("job not requeued; it is handed back", "err", err)
	}
	return l.delivery.nak(delay)
}

func (l *lease) put(ctx context.Context, v *verdict) (err error) {
	if v.job.State.Terminal() {
		_, err = l.queue.Finish(ctx, v.job, v.job.State, l.seq)
	} else {
		_, err = l.queue.Put(ctx, &v.job, l.seq)
	}
	return err
}

// dropFile deletes the file of an attempt that ended with err, unless the job may have succeeded with it for
// all that is known. What is not deleted expires.
func (l *lease) dropFile(ctx context.Context, err error) {
	if l.file == nil || err != nil && !errors.Is(err, ErrLeaseLost) {
		return
	}
	if err := l.queue.DeleteFile(context.WithoutCancel(ctx), &l.job); err != nil {
		l.log.Warn("file of a failed attempt not deleted", "err", err)
	}
}

// resolve finds out who else wrote the state: nil means a cancel, or nobody after all; errDone, this lease
// itself, by a write whose answer got lost; [ErrLeaseLost], another worker.
func (l *lease) resolve(ctx context.Context) error {
	lost, err := l.refresh(ctx)
	if err != nil || !lost {
		return err
	}
	s, err := l.queue.ReadLeader(ctx, l.job.User, l.job.ID)
	if err != nil {
		return err
	}
	if s.Job.State.Terminal() && s.Job.Run == l.job.Run && s.Job.Attempt == l.job.Attempt && s.Job.Lost == l.job.Lost {
		if err := l.queue.Repair(ctx, &l.delivery.order, l.delivery.seq); err != nil {
			return err
		}
		return errDone
	}
	return ErrLeaseLost
}
