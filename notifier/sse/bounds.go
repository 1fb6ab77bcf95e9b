package sse

import (
	"context"
	"time"

	"github.com/hark-jobs/hark/internal/sharedcall"
)

// bounds are the sequences of the first and the last message of the log.
type bounds struct{ first, last uint64 }

// boundsReader asks for the bounds of the log. They are from after the call, however many ask: a stream must learn the end of the
// log as it was after the stream subscribed.
type boundsReader struct {
	read  func(context.Context) (first, last uint64, err error)
	calls *sharedcall.Group[struct{}, bounds]
}

const (
	boundsTimeout = 5 * time.Second
	// boundsPause collects calls when streams open faster than the log answers. A request costs about as much as all else in opening
	// a stream.
	boundsPause = time.Millisecond
)

func (b *boundsReader) init(read func(context.Context) (first, last uint64, err error)) {
	b.read = read
	b.calls = sharedcall.New(boundsTimeout, func(ctx context.Context, _ struct{}) (at bounds, err error) {
		at.first, at.last, err = b.read(ctx)
		return at, err
	})
	b.calls.Pause = boundsPause
}

// get returns the bounds. It blocks for one or two round trips.
func (b *boundsReader) get(ctx context.Context) (first, last uint64, err error) {
	at, err := b.calls.Do(ctx, struct{}{})
	return at.first, at.last, err
}
