package joblog

import (
	"errors"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
)

// ErrConflict is returned by [Store.PutState] when another process wrote the state after it was read: the lease is lost,
// or a cancel has arrived.
var ErrConflict = errors.New("joblog: the state was written by another process")

// JetStream's error codes for a full store: JSStreamStoreFailedF, JSInsufficientResourcesErr and
// JSStorageResourcesExceededErr.
const (
	errCodeStoreFailed      = 10077
	errCodeNoResources      = 10023
	errCodeStorageExhausted = 10047
)

// IsFull reports whether JetStream refused a write because it has no room.
func IsFull(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && (api.ErrorCode == errCodeNoResources || api.ErrorCode == errCodeStorageExhausted ||
		api.ErrorCode == errCodeStoreFailed && strings.Contains(api.Description, "maximum bytes"))
}

// isConflict reports whether JetStream refused a write because the last sequence is not the expected one.
func isConflict(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence
}
