package sse

import (
	"context"
	"sync"
	"time"
)

// boundsReader asks the log for its bounds, once for all who want to know at a time. An answer is good only
// for those who asked before the question went out: a stream must know where the log stood after it was
// subscribed.
type boundsReader struct {
	read func(context.Context) (first, last uint64, err error)

	mu   sync.Mutex
	next *boundsCall // not sent yet
	busy bool
}

type boundsCall struct {
	done        chan struct{}
	first, last uint64
	err         error
}

// get blocks for one or two round trips.
func (b *boundsReader) get(ctx context.Context) (first, last uint64, err error) {
	b.mu.Lock()
	if b.next == nil {
		b.next = &boundsCall{done: make(chan struct{})}
	}
	call := b.next
	if !b.busy {
		b.busy = true
		go b.work()
	}
	b.mu.Unlock()
	select {
	case <-call.done:
		return call.first, call.last, call.err
	case <-ctx.Done():
		return 0, 0, ctx.Err()
	}
}

// boundsPause is how long the next question waits for others who want to know, when streams open faster than the log is
// asked: a question costs about as much as all the rest of opening a stream.
const boundsPause = time.Millisecond

// work sends questions until nobody waits for one.
func (b *boundsReader) work() {
	for first := true; ; first = false {
		if !first {
			time.Sleep(boundsPause)
		}
		b.mu.Lock()
		call := b.next
		b.next = nil
		b.busy = call != nil
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
