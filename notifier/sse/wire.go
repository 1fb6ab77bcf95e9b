package sse

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"
)

// wire carries frames to one reader. Its methods are safe for concurrent use.
type wire interface {
	// send takes a frame, which must not be changed afterwards, and does not block. It fails with errSlow
	// when the reader is owed too much already, and with another error when it is gone.
	send(frame []byte) error
	// room blocks until there is room for a frame of n bytes and some more, or fails when the reader is gone or
	// takes nothing for long (errSlow), or when ctx ends, as it does soon after the reader is gone.
	room(ctx context.Context, n int) error
	// close ends the wire after what was sent is written, or a second later if the reader does not take it.
	// It does not block, and may be called more than once.
	close()
}

var (
	errSlow = errors.New("sse: the reader is too slow")
	errGone = errors.New("sse: the reader is gone")
)

// lastWord is how long a reader may take for what is left to be written when its wire is closed.
const lastWord = time.Second

// handlerWire writes through an http.ResponseWriter, on the goroutine of its handler. It serves TLS and
// HTTP/2, where a connection cannot be taken over.
type handlerWire struct {
	limit    int
	patience time.Duration

	mu      sync.Mutex
	queue   [][]byte
	size    int                      // bytes in queue and being written
	wake    chan struct{}            // holds one token when there is something to do
	spare   chan struct{}            // closed and made anew when size shrinks
	closed  bool                     // nothing is taken any more
	until   time.Time                // when the last write must be over, once closed
	control *http.ResponseController // while serve runs
}

func newHandlerWire(limit int, patience time.Duration) *handlerWire {
	return &handlerWire{limit: limit, patience: patience, wake: make(chan struct{}, 1), spare: make(chan struct{})}
}

func (w *handlerWire) send(frame []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return errGone
	}
	if w.size > 0 && w.size+len(frame) > w.limit {
		return errSlow
	}
	w.size += len(frame)
	w.queue = append(w.queue, frame)
	w.signal()
	return nil
}

func (w *handlerWire) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *handlerWire) room(ctx context.Context, n int) error {
	timer := time.NewTimer(w.patience)
	defer timer.Stop()
	for {
		w.mu.Lock()
		size, spare, closed := w.size, w.spare, w.closed
		w.mu.Unlock()
		if closed {
			return errGone
		}
		if size == 0 || size <= w.limit/2 && size+n <= w.limit {
			return nil
		}
		select {
		case <-spare:
			timer.Reset(w.patience)
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
			return errSlow
		}
	}
}

func (w *handlerWire) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return
	}
	w.closed, w.until = true, time.Now().Add(min(lastWord, w.patience))
	w.limitWrite()
	w.signal()
}

// limitWrite gives the next write, or the one under way, its time. The lock is held, since a controller must
// not be used after its handler has returned.
func (w *handlerWire) limitWrite() {
	if w.control == nil {
		return
	}
	until := w.until
	if !w.closed {
		until = time.Now().Add(w.patience)
	}
	// A writer without deadlines, as tests may use, still works.
	_ = w.control.SetWriteDeadline(until)
}

// serve writes what is sent until the wire is closed or the reader goes away.
func (w *handlerWire) serve(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	w.control = http.NewResponseController(rw)
	control := w.control
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		w.closed, w.control = true, nil
		w.mu.Unlock()
	}()
	for {
		w.mu.Lock()
		queue, closed := w.queue, w.closed
		w.queue = nil
		w.mu.Unlock()
		if len(queue) > 0 {
			if !w.write(rw, control, queue) {
				return
			}
			continue
		}
		if closed {
			return
		}
		select {
		case <-w.wake:
		case <-r.Context().Done():
			return
		}
	}
}

// write writes and flushes frames. Each has its own time: a reader that takes little is not one that takes
// nothing.
func (w *handlerWire) write(rw http.ResponseWriter, control *http.ResponseController, queue [][]byte) bool {
	owed := 0 // bytes that net/http may still hold
	for i, frame := range queue {
		w.mu.Lock()
		w.limitWrite()
		w.mu.Unlock()
		if _, err := rw.Write(frame); err != nil {
			return false
		}
		owed += len(frame)
		if owed < 4<<10 && i < len(queue)-1 {
			continue
		}
		if err := control.Flush(); err != nil {
			return false
		}
		w.mu.Lock()
		w.size -= owed
		close(w.spare)
		w.spare = make(chan struct{})
		w.mu.Unlock()
		owed = 0
	}
	return true
}
