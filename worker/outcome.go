package worker

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/hark-jobs/hark/jobs"
)

// The causes with which a handler's context ends, as [context.Cause] returns them.
var (
	// ErrCancelled: the user or an admin cancelled the job.
	ErrCancelled = errors.New("worker: the job was cancelled")
	// ErrLeaseLost: the lease was lost, and another worker may be running the job. Nothing that this handler does is
	// stored.
	ErrLeaseLost = errors.New("worker: the lease was lost")
	// ErrStopping: the worker stops and its grace period has passed. The job is requeued, and this attempt does not count.
	ErrStopping = errors.New("worker: the worker is stopping")
	// ErrTimeout: the handler ran longer than its timeout.
	ErrTimeout = errors.New("worker: the handler exceeded its timeout")
)

// Error is a failure with a code and a sentence for the user. A handler returns it, wrapped or not. The text of any
// other error goes to the log only.
type Error struct {
	Code    string // stable, for programs; at most 100 characters
	Message string // one sentence for the user; at most [jobs.MaxTextChars]. More of either is cut
	Err     error  // the private cause; may be nil
}

func (e *Error) Error() string {
	if e.Err == nil {
		return e.Code + ": " + e.Message
	}
	return fmt.Sprintf("%s: %s: %v", e.Code, e.Message, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// Cancel returns an error that makes the job cancelled because of err, with no further attempt.
func Cancel(err error) error { return &cancelError{err} }

type cancelError struct{ err error }

func (e *cancelError) Error() string { return "cancelled by its handler: " + e.err.Error() }
func (e *cancelError) Unwrap() error { return e.err }

// Fail returns an error that makes the job failed because of err, with no further attempt.
func Fail(err error) error { return &failError{err} }

type failError struct{ err error }

func (e *failError) Error() string { return "failed, no further attempt: " + e.err.Error() }
func (e *failError) Unwrap() error { return e.err }

// Snooze returns an error that runs the job again after d. This attempt does not count.
func Snooze(d time.Duration) error { return &snoozeError{d} }

type snoozeError struct{ delay time.Duration }

func (e *snoozeError) Error() string { return fmt.Sprintf("snoozed for %v", e.delay) }

// PanicError is the error of a handler that panicked.
type PanicError struct {
	Value any
	Stack []byte // of the goroutine that panicked
}

func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v", e.Value) }

// publicError returns the error that the user reads for err, and for the cause with which the handler's context ended.
func publicError(err, cause error) *jobs.Error {
	var public *Error
	var panicked *PanicError
	var full *jobs.UserFullError
	switch {
	case errors.As(err, &public):
		return &jobs.Error{Code: public.Code, Message: public.Message}
	case errors.As(err, &panicked):
		return &jobs.Error{Code: "handler_panicked", Message: "The job hit a bug and stopped. Those who run it find the details in the log."}
	case errors.As(err, &full):
		return &jobs.Error{Code: "user_files_full", Message: "There is no room for the file of the job, since all your files together may take " +
			humanize.IBytes(uint64(full.Limit)) + "; delete some that you do not need, or wait until older ones have expired, and retry the job."}
	case errors.Is(err, jobs.ErrStoreFull):
		return &jobs.Error{Code: "storage_full", Message: "There is no room for the file of the job; try again when older files have expired, or ask your administrator for more."}
	case errors.Is(cause, ErrTimeout):
		return &jobs.Error{Code: "timeout", Message: "The job took longer than it may."}
	}
	return &jobs.Error{Code: "handler_failed", Message: "The job failed. Those who run it find the details in the log."}
}

// DefaultBackoff waits about 2 s after the first attempt, and twice as long after each further one, at most an hour. It
// adds a jitter of up to a quarter either way, so that jobs that failed together are not retried together.
func DefaultBackoff(attempt int) time.Duration {
	d := time.Hour
	if attempt < 12 {
		d = min(d, time.Second<<attempt)
	}
	return time.Duration(float64(d) * (0.75 + rand.Float64()/2))
}
