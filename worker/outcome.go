package worker

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/hark-jobs/hark/jobs"
)

// Why a handler's context ended; what [context.Cause] returns.
var (
	// ErrCancelled: the user, or an admin, cancelled the job.
	ErrCancelled = errors.New("worker: the job was cancelled")
	// ErrLeaseLost: another worker may be running the job by now. Nothing this handler does will count.
	ErrLeaseLost = errors.New("worker: the lease was lost")
	// ErrStopping: the worker stops and its grace is over. The job goes back to the queue, and this
	// attempt does not count.
	ErrStopping = errors.New("worker: the worker is stopping")
	// ErrTimeout: the handler ran longer than its kind allows.
	ErrTimeout = errors.New("worker: the handler ran out of time")
)

// Error is a failure that the user may read about. A handler that returns one, wrapped or not, decides
// the code and the sentence; the text of any other error goes to the log alone.
type Error struct {
	Code    string // stable, for programs
	Message string // one sentence for the user
	Err     error  // the private cause; may be nil
}

func (e *Error) Error() string {
	if e.Err == nil {
		return e.Code + ": " + e.Message
	}
	return fmt.Sprintf("%s: %s: %v", e.Code, e.Message, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// Cancel makes the job cancelled because of err, with no further attempt.
func Cancel(err error) error { return &cancelError{err} }

type cancelError struct{ err error }

func (e *cancelError) Error() string { return "cancelled by its handler: " + e.err.Error() }
func (e *cancelError) Unwrap() error { return e.err }

// Fail makes the job failed because of err, whatever attempts are left.
func Fail(err error) error { return &failError{err} }

type failError struct{ err error }

func (e *failError) Error() string { return "failed for good: " + e.err.Error() }
func (e *failError) Unwrap() error { return e.err }

// Snooze runs the job again after d, and this attempt does not count.
func Snooze(d time.Duration) error { return &snoozeError{d} }

type snoozeError struct{ delay time.Duration }

func (e *snoozeError) Error() string { return fmt.Sprintf("snoozed for %v", e.delay) }

// panicError is what is left of a handler that panicked.
type panicError struct{ value any }

func (e *panicError) Error() string { return fmt.Sprintf("panic: %v", e.value) }

// publicError says what a user reads about err, and about why the handler's context ended, if it did.
func publicError(err, cause error) *jobs.Error {
	var public *Error
	var panicked *panicError
	switch {
	case errors.As(err, &public):
		return &jobs.Error{Code: public.Code, Message: public.Message}
	case errors.As(err, &panicked):
		return &jobs.Error{Code: "handler_panicked", Message: "The job hit a bug and stopped. Those who run it find the details in the log."}
	case errors.Is(err, jobs.ErrStoreFull):
		return &jobs.Error{Code: "storage_full", Message: "There is no room for the file of the job; try again when older files have expired, or ask your administrator for more."}
	case errors.Is(cause, ErrTimeout):
		return &jobs.Error{Code: "timeout", Message: "The job took longer than it may."}
	}
	return &jobs.Error{Code: "handler_failed", Message: "The job failed. Those who run it find the details in the log."}
}

// DefaultBackoff waits about 2 s after the first attempt, and twice as long after each further one, up to
// an hour. The wait is spread by a quarter either way, so that what failed together does not return together.
func DefaultBackoff(attempt int) time.Duration {
	d := time.Hour
	if attempt < 12 {
		d = min(d, time.Second<<attempt)
	}
	return time.Duration(float64(d) * (0.75 + rand.Float64()/2))
}
