package jobs

import (
	"errors"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
)

var (
	// ErrNotFound is returned for a job that is not there, or is another user's.
	ErrNotFound = errors.New("jobs: no such job")
	// ErrKindUnknown is returned by [Queue.Enqueue] for a kind that no worker has published.
	ErrKindUnknown = errors.New("jobs: no worker knows this kind")
	// ErrKeyReused is returned by [Queue.Enqueue] and [Queue.Notify] when the key was used before for
	// something else.
	ErrKeyReused = errors.New("jobs: the key was used before with other content")
	// ErrStoreFull is returned by [Queue.StoreFile] when there is no room for the file: the files take as much as they may,
	// or JetStream has no more storage.
	ErrStoreFull = errors.New("jobs: there is no room for the file")
	// ErrEnded is returned by [Queue.Cancel] for a job in a terminal state.
	ErrEnded = errors.New("jobs: the job has ended")
	// ErrNotEnded is returned by [Queue.Retry] for a job that neither failed nor was cancelled.
	ErrNotEnded = errors.New("jobs: the job has neither failed nor been cancelled")
	// ErrConflict is returned by [Queue.Put] when the state was written by somebody else since it was
	// read: the lease is lost, or a cancel has arrived.
	ErrConflict = errors.New("jobs: the state was written by somebody else")
)

// What JetStream says when nothing more can be stored: its JSStreamStoreFailedF, JSInsufficientResourcesErr and
// JSStorageResourcesExceededErr.
const (
	errCodeStoreFailed      = 10077
	errCodeNoResources      = 10023
	errCodeStorageExhausted = 10047
)

// isFull reports whether JetStream refused a write for want of room.
func isFull(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && (api.ErrorCode == errCodeNoResources || api.ErrorCode == errCodeStorageExhausted ||
		api.ErrorCode == errCodeStoreFailed && strings.Contains(api.Description, "maximum bytes"))
}

// isConflict reports whether JetStream refused a write because the expected sequence was not the last.
func isConflict(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence
}
