package jobs

import "fmt"

// Addressed is a notification with its recipient: a user, or [Everyone].
type Addressed struct {
	User         string
	Notification Notification
}

// BatchError is the error of a call with several requests or notifications: it names the first that failed.
type BatchError struct {
	Index int // from 0
	Err   error
}

func (e *BatchError) Error() string {
	return fmt.Sprintf("jobs: number %d of the batch: %v", e.Index, e.Err)
}
func (e *BatchError) Unwrap() error { return e.Err }
