package jobs

import (
	"context"
	"time"
)

// callTimeout bounds a call to the server for callers whose context has no deadline.
const callTimeout = 5 * time.Second

func withTimeout(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, callTimeout)
}
