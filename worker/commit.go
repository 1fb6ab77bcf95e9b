package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"
	"unicode/utf8"

	"github.com/hark-jobs/hark/internal/joblog"
	"github.com/hark-jobs/hark/jobs"
)

// outcome is the result of an attempt: the job to write, and how to answer its message.
type outcome struct {
	job       jobs.Job
	redeliver bool          // nak or requeue the message, in place of the ack
	delay     time.Duration // before the next delivery, at least
}

// attemptResult is what a handler returned, and the cause with which its context had ended by then, nil if it had not.
type attemptResult struct {
	result jobs.Result
	err    error
	cause  error
}

// storable returns a handler's result with its value as a [json.RawMessage]. A value that is too large or cannot be
// marshalled fails the job, with no further attempt: the next attempt would return the same.
func storable(r jobs.Result, log *slog.Logger) (jobs.Result, error) {
	if n := utf8.RuneCountInString(r.Summary); n > jobs.MaxTextChars {
		log.Warn("job's summary is too long and was cut", "characters", n, "max", jobs.MaxTextChars)
	}
	if r.Value == nil {
		return r, nil
	}
	value, err := json.Marshal(r.Value)
	if err != nil {
		return jobs.Result{}, Fail(&Error{"result_invalid", "The job's result cannot be stored. Those who run it find the details in the log.", err})
	}
	if len(value) > jobs.MaxResultBytes {
		return jobs.Result{}, Fail(&Error{"result_too_large", fmt.Sprintf("The job's result is larger than %d KiB and cannot be stored; its handler can leave a file instead.",
			jobs.MaxResultBytes>>10), fmt.Errorf("worker: the result has %d bytes of JSON", len(value))})
	}
	r.Value = json.RawMessage(value)
	return r, nil
}

// decide returns the outcome of the attempt.
func (l *lease) decide(h *Handler, e attemptResult) outcome {
	job := l.job
	if p := l.takeProgress(); p != nil {
		job.Progress = *p
	}
	return h.decide(job, l.file, e)
}

// decide returns the outcome of an attempt of job that has stored file.
func (h *Handler) decide(job jobs.Job, file *jobs.File, e attemptResult) outcome {
	v := outcome{job: job}
	v.job.Worker = ""
	var snooze *snoozeError
	var cancelled *cancelError
	var failed *failError
	switch {
	case e.err == nil:
		v.job.State, v.job.File, v.job.Error = jobs.Succeeded, file, nil
		if e.result.Summary != "" {
			v.job.Progress.Message = e.result.Summary
		}
		if e.result.Value != nil {
			v.job.Result = e.result.Value.(json.RawMessage) // see storable
		}
	case job.CancelRequested || errors.Is(e.cause, ErrCancelled):
		v.job.State, v.job.Error = jobs.Cancelled, &jobs.Error{Code: "cancelled", Message: "Cancelled while it ran."}
	case errors.As(e.err, &cancelled):
		v.job.State, v.job.Error = jobs.Cancelled, publicError(cancelled.err, e.cause)
	case errors.Is(e.cause, ErrStopping):
		v.job.State, v.redeliver = jobs.Queued, true
		v.job.Attempt--
		v.job.StartedAt, v.job.Progress = time.Time{}, jobs.Progress{}
	case errors.As(e.err, &snooze):
		v.job.State, v.redeliver, v.delay = jobs.Retrying, true, snooze.delay
		v.job.Attempt--
	case job.Attempt >= job.MaxAttempts || errors.As(e.err, &failed) || errors.Is(e.err, jobs.ErrUserFull): // the user must delete files first
		v.job.State, v.job.Error = jobs.Failed, publicError(e.err, e.cause)
	default:
		v.job.State, v.redeliver, v.delay = jobs.Retrying, true, h.backoff(job.Attempt)
		v.job.Error = publicError(e.err, e.cause)
	}
	if v.job.State == jobs.Retrying {
		v.job.RetryAt, v.job.RetryDelay = time.Now().Add(v.delay).UTC().Truncate(time.Millisecond), v.delay
	}
	return v
}

// commit writes the outcome, answers the message, and returns the written state. While the server cannot be reached it
// retries until ctx ends. If the outcome is not written by then, the next worker runs the job again.
func (l *lease) commit(ctx context.Context, decide func() outcome) (jobs.State, error) {
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, 2*time.Second) {
		v := decide()
		err := l.put(ctx, &v)
		if errors.Is(err, joblog.ErrConflict) {
			err = l.resolve(ctx)
			if err == nil {
				continue // a cancel has arrived; decide again
			}
		}
		switch {
		case err == nil && v.redeliver:
			return v.job.State, l.requeue(ctx, v.delay)
		case err == nil || errors.Is(err, errNothingToRun):
			if err := l.delivery.ack(); err != nil {
				return v.job.State, err
			}
			return v.job.State, l.store.AfterStep(joblog.Acked, &v.job)
		case errors.Is(err, ErrLeaseLost), errors.Is(err, joblog.ErrSimulatedCrash):
			return "", err
		}
		l.log.Warn("commit failed; retrying", "err", err)
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("worker: commit: %w", err)
		case <-time.After(pause):
		}
		if err := l.delivery.renew(); err != nil {
			l.log.Warn("heartbeat failed", "err", err)
		}
	}
}

// requeue gives the job to any worker: after delay, or at once.
func (l *lease) requeue(ctx context.Context, delay time.Duration) error {
	if delay <= 0 {
		err := l.store.Requeue(ctx, &l.delivery.spec, l.delivery.seq)
		if err == nil {
			return l.delivery.ack()
		}
		l.log.Warn("requeue failed; sending a nak", "err", err)
	}
	return l.delivery.nak(delay)
}

func (l *lease) put(ctx context.Context, v *outcome) (err error) {
	if v.job.State.Terminal() {
		_, err = l.store.Finish(ctx, v.job, v.job.State, l.seq)
	} else {
		_, err = l.store.PutState(ctx, &v.job, l.seq)
	}
	return err
}

// deleteFile deletes the file of an attempt that ended with err, unless the job may have succeeded with it. A file that
// is not deleted expires.
func (l *lease) deleteFile(ctx context.Context, err error) {
	if l.file == nil || err != nil && !errors.Is(err, ErrLeaseLost) {
		return
	}
	if err := l.store.DeleteFile(context.WithoutCancel(ctx), &l.job); err != nil {
		l.log.Warn("deleting the file of a failed attempt failed", "err", err)
	}
}

// resolve finds out who wrote the state after a conflict. It returns nil for a cancel or if the lease still holds,
// errNothingToRun if this lease wrote it and the ack was lost, and [ErrLeaseLost] if another worker wrote it.
func (l *lease) resolve(ctx context.Context) error {
	lost, err := l.refresh(ctx)
	if err != nil || !lost {
		return err
	}
	s, err := l.store.ReadLeader(ctx, l.job.User, l.job.Kind, l.job.ID)
	if err != nil {
		return err
	}
	if s.Job.State.Terminal() && s.Job.Run == l.job.Run && s.Job.Attempt == l.job.Attempt && s.Job.Lost == l.job.Lost {
		if err := l.store.EnsureNotified(ctx, &l.delivery.spec, l.delivery.seq); err != nil {
			return err
		}
		return errNothingToRun
	}
	return ErrLeaseLost
}
