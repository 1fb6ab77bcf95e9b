package sse

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/hark-jobs/hark/jobs"
)

// handlerConn writes to an http.ResponseWriter on the goroutine of its handler. It serves TLS and HTTP/2, where a
// connection cannot be taken over.
type handlerConn struct {
	hub *Hub

	mu            sync.Mutex
	queue         [][]byte
	pendingBytes  int                      // in queue and being written; part of Hub.pendingBytes
	progressAt    time.Time                // when the reader had last taken a share of the backlog, or all
	progress      int                      // bytes taken since progressAt
	memoryTight   bool                     // the frames took space of the reserve; closeTimeout replaces WriteTimeout
	wake          chan struct{}            // holds one token while there is something to write or to end
	drained       chan struct{}            // closed, and replaced, when pendingBytes shrinks
	closed        bool                     // send fails
	closeDeadline time.Time                // of the last write, once closed
	control       *http.ResponseController // nil unless serve is running
}

// newHandlerConn returns a connection that keeps frames until serve writes them.
func newHandlerConn(h *Hub) *handlerConn {
	return &handlerConn{hub: h, wake: make(chan struct{}, 1), drained: make(chan struct{})}
}

// send implements conn.
func (c *handlerConn) send(id jobs.Position, frame []byte) error {
	line := idLine(nil, id)
	n := len(line) + len(frame)
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed:
		return errGone
	case c.control != nil && c.fullForLocked(n): // the first frames, before serve runs, always have room
		return errSlowConsumer
	}
	if c.pendingBytes == 0 {
		c.progressAt, c.progress, c.memoryTight = time.Now(), 0, c.hub.exceedsShared(n)
	}
	c.pendingBytes += n
	c.hub.pendingBytes.Add(int64(n))
	if len(line) > 0 {
		c.queue = append(c.queue, line)
	}
	c.queue = append(c.queue, frame)
	c.wakeWriter()
	return nil
}

// fullForLocked reports whether there is no room for n bytes. With nothing pending only the total counts: most
// readers take a frame at once.
func (c *handlerConn) fullForLocked(n int) bool {
	if c.pendingBytes == 0 {
		return c.hub.exceedsTotal(n)
	}
	return c.pendingBytes+n > c.hub.o.Backlog || c.hub.exceedsShared(n)
}

// wakeWriter wakes serve.
func (c *handlerConn) wakeWriter() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// memoryPollInterval is the interval at which waitWritable checks the total of pending bytes, which other readers
// change.
const memoryPollInterval = 50 * time.Millisecond

// waitWritable implements conn.
func (c *handlerConn) waitWritable(ctx context.Context, n int) error {
	timer := time.NewTimer(c.hub.o.WriteTimeout)
	defer timer.Stop()
	others := time.NewTicker(memoryPollInterval)
	defer others.Stop()
	for {
		c.mu.Lock()
		full := c.fullForLocked(n) || c.pendingBytes > c.hub.o.Backlog/2
		spare, closed := c.drained, c.closed
		c.mu.Unlock()
		switch {
		case closed:
			return errGone
		case !full:
			return nil
		}
		select {
		case <-others.C: // the total may have shrunk
		case <-spare:
			timer.Reset(c.hub.o.WriteTimeout)
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
			return errSlowConsumer
		}
	}
}

// replayEnded implements conn.
func (c *handlerConn) replayEnded() {}

// close implements conn.
func (c *handlerConn) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	c.closed, c.closeDeadline = true, time.Now().Add(min(closeTimeout, c.hub.o.WriteTimeout))
	c.setWriteDeadlineLocked()
	c.wakeWriter()
}

// setWriteDeadlineLocked sets the deadline of the current and next write. The lock keeps the handler from
// returning meanwhile: a controller must not be used after that.
func (c *handlerConn) setWriteDeadlineLocked() {
	if c.control == nil {
		return
	}
	until := c.closeDeadline
	switch patience := c.hub.o.WriteTimeout; {
	case c.closed:
	case c.memoryTight:
		until = c.progressAt.Add(min(closeTimeout, patience))
	default:
		until = c.progressAt.Add(patience)
	}
	// The error is ignored: a writer without deadlines, as in tests, works without them.
	_ = c.control.SetWriteDeadline(until)
}

// serve writes frames until the connection is closed or the request ends. It blocks.
func (c *handlerConn) serve(rw http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	c.control = http.NewResponseController(rw)
	control := c.control
	c.mu.Unlock()
	defer c.abort()
	for {
		c.mu.Lock()
		queue, closed := c.queue, c.closed
		c.queue = nil
		c.mu.Unlock()
		if len(queue) > 0 {
			if !c.write(rw, control, queue) {
				return
			}
			continue
		}
		if closed {
			return
		}
		select {
		case <-c.wake:
		case <-r.Context().Done():
			return
		}
	}
}

// abort closes the connection at once, and discards what is pending.
func (c *handlerConn) abort() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.control != nil { // net/http still writes the end of the response
		_ = c.control.SetWriteDeadline(time.Now().Add(min(closeTimeout, c.hub.o.WriteTimeout)))
	}
	c.closed, c.control, c.queue = true, nil, nil
	c.advanceLocked(c.pendingBytes)
}

// write writes and flushes frames, and reports false if that fails. It writes large frames in pieces, so that
// progress is seen.
func (c *handlerConn) write(rw http.ResponseWriter, control *http.ResponseController, queue [][]byte) bool {
	piece := max(c.hub.o.Backlog/minProgressShare, 1)
	unflushed := 0 // bytes that net/http may still buffer
	for i, frame := range queue {
		queue[i] = nil
		for len(frame) > 0 {
			n := min(len(frame), piece)
			c.mu.Lock()
			c.setWriteDeadlineLocked()
			c.mu.Unlock()
			if _, err := rw.Write(frame[:n]); err != nil {
				return false
			}
			frame = frame[n:]
			unflushed += n
			if unflushed < 4<<10 && (len(frame) > 0 || i < len(queue)-1) {
				continue
			}
			if err := control.Flush(); err != nil {
				return false
			}
			c.mu.Lock()
			c.advanceLocked(unflushed)
			if c.pendingBytes == 0 && !c.closed {
				_ = c.control.SetWriteDeadline(time.Time{}) // with HTTP/2 a deadline ends an idle stream, too
			}
			c.mu.Unlock()
			unflushed = 0
		}
	}
	return true
}

// advanceLocked counts n bytes as taken by the reader.
func (c *handlerConn) advanceLocked(n int) {
	c.pendingBytes -= n
	c.hub.pendingBytes.Add(-int64(n))
	c.progress += n
	if c.pendingBytes == 0 || c.progress >= c.hub.o.Backlog/minProgressShare {
		c.progressAt, c.progress, c.memoryTight = time.Now(), 0, false
	}
	close(c.drained)
	c.drained = make(chan struct{})
}
