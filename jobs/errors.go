package jobs

import (
	"errors"
	"fmt"
)

var (
	// ErrNotFound is returned for a job that does not exist, or belongs to another user.
	ErrNotFound = errors.New("jobs: no such job")
	// ErrKindUnknown is returned when a job of an unpublished kind is enqueued.
	ErrKindUnknown = errors.New("jobs: no worker knows this kind")
	// ErrKeyReused is returned when a job or a notification has a key that was used before for something else.
	ErrKeyReused = errors.New("jobs: the key was used before with other content")
	// ErrStoreFull is returned when a file does not fit: all files together have reached their limit, or JetStream has no
	// more storage.
	ErrStoreFull = errors.New("jobs: there is no room for the file")
	// ErrUserFull matches a [*UserFullError] in errors.Is.
	ErrUserFull = errors.New("jobs: there is no room for the file among those of its user")
	// ErrEnded is returned when a job in a terminal state is cancelled.
	ErrEnded = errors.New("jobs: the job has ended")
	// ErrNotEnded is returned when a job is retried that neither failed nor was cancelled.
	ErrNotEnded = errors.New("jobs: the job has neither failed nor been cancelled")
	// ErrFileGone is returned for a file that was never stored, has expired or was discarded.
	ErrFileGone = errors.New("jobs: the file is gone")
)

// UserFullError is returned when a file does not fit among the files of its user.
type UserFullError struct {
	Limit int64 // bytes that all files of the user may take together
}

func (e *UserFullError) Error() string {
	return fmt.Sprintf("%v, which may take %d bytes together", ErrUserFull, e.Limit)
}

func (e *UserFullError) Unwrap() error { return ErrUserFull }
