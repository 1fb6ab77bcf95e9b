package natstest

import (
	"context"
	"testing"
	"time"
)

// Context returns a context that ends with the test, or after three minutes. With a deadline of its own a call to NATS may take
// that long; without one it may take 5 s, which is little for a new stream of three servers on a busy machine. A call that is
// retried until it succeeds, while a server restarts or a stream moves, must have t.Context(): its response may be lost, and is
// awaited for as long as the context allows.
func Context(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	t.Cleanup(cancel)
	return ctx
}
