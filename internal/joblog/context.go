package joblog

import (
	"context"
	"time"
)

// callTimeout is the deadline of a call to the server when the caller's context has none.
const callTimeout = 5 * time.Second

func withTimeout(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, callTimeout)
}
