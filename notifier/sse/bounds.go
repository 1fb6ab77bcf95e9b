package sse

import (
	"context"
	"sync"
	"time"
)

// boundsReader asks for the bounds of the log, with one request for all callers at a time. An answer is valid only
// for calls that began before the request was sent: a stream must learn the end of the log as it was after the
// stream subscribed.
type boundsReader struct {
	read func(context.Context) (first, last uint64, err error)

	mu      sync.Mutex
	next    *boundsCall // not sent yet
	running bool
}

// boundsCall is one request; the other fields are set when done is closed.
type boundsCall struct {
	done        chan struct{}
	first, last uint64
	err         error
}

// get returns the sequences of the first and the last message of the log. It blocks for one or two round trips.
func (b *boundsReader) get(ctx context.Context) (first, last uint64, err error) {
	b.mu.Lock()
	if b.next == nil {
		b.next = &boundsCall{done: make(chan struct{})}
	}
	call := b.next
	if !b.running {
		b.running = true
		go b.run()
	}
	b.mu.Unlock()
	select {
	case <-call.done:
		return call.first, call.last, call.err
	case <-ctx.Done():
		return 0, 0, ctx.Err()
	}
}

// boundsPause is the pause before the next request, which collects calls when streams open faster than the log
// answers. A request costs about as much as all else in opening a stream.
const boundsPause = time.Millisecond

// run sends requests until no call waits.
func (b *boundsReader) run() {
	for first := true; ; first = false {
		if !first {
			time.Sleep(boundsPause)
		}
		b.mu.Lock()
		call := b.next
		b.next = nil
		b.running = call != nil
		b.mu.Unlock()
		if call == nil {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		call.first, call.last, call.err = b.read(ctx)
		cancel()
		close(call.done)
	}
}
