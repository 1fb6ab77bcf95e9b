package sse

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/hark-jobs/hark/jobs"
	"golang.org/x/sys/unix"
)

// socketConn is a connection that was taken over from net/http. It is little more than a socket: it has no
// goroutine, and no buffer while nothing is pending. Writes do not block. Bytes that the socket does not accept
// are kept, within the limits, until the poller reports that the socket is writable.
type socketConn struct {
	stream     *stream // ended when the connection is closed
	fd         int32   // -1 until attach
	generation int32   // set by the poller

	mu      sync.Mutex
	pending *pendingWrites // nil while nothing is pending
	drained chan struct{}  // closed when pending shrinks; nil while nobody waits
	closing bool           // close the socket once nothing is pending
	closed  bool
}

// pendingWrites is data that a socket has not accepted yet. Most sockets have none. Whole frames are shared with
// other streams, not copied.
type pendingWrites struct {
	frames     [][]byte  // the first one without its written part
	bytes      int       // the size of frames
	progressAt time.Time // when the reader had last taken a share of the backlog
	progress   int       // bytes taken since progressAt
}

// append adds a frame.
func (d *pendingWrites) append(frame []byte) {
	d.frames = append(d.frames, frame)
	d.bytes += len(frame)
}

// advance removes n written bytes. The progress time moves on after each least bytes.
func (d *pendingWrites) advance(n, least int) {
	d.bytes -= n
	d.progress += n
	if d.progress >= least {
		d.progressAt, d.progress = time.Now(), 0
	}
	for n > 0 {
		if first := d.frames[0]; n < len(first) {
			d.frames[0] = first[n:]
			return
		}
		n -= len(d.frames[0])
		d.frames[0] = nil
		d.frames = d.frames[1:]
	}
}

// canTakeOver reports whether the connection of a request can be taken over: it is HTTP/1.1 over plain TCP, which
// is what reverse proxies use.
func canTakeOver(rw http.ResponseWriter, r *http.Request) bool {
	if r.TLS != nil || r.ProtoMajor != 1 {
		return false
	}
	for {
		switch w := rw.(type) {
		case interface{ Unwrap() http.ResponseWriter }:
			rw = w.Unwrap()
		case http.Hijacker:
			return true
		default:
			return false
		}
	}
}

// serveTakenOver starts a stream, takes the connection of the request over, and returns. An error means that
// nothing was written.
func (h *Hub) serveTakenOver(rw http.ResponseWriter, r *http.Request, sub Subscriber) error {
	// A stream and its connection have the same lifetime. One allocation for both takes less memory than two.
	both := &struct {
		stream stream
		conn   socketConn
	}{}
	s, c := &both.stream, &both.conn
	s.init(h, c, sub)
	// Frames are kept after the response head until attach.
	c.stream, c.fd, c.pending = s, -1, &pendingWrites{}
	c.queueLocked(responseHead(rw.Header()))
	if err := h.begin(r.Context(), s, sub); err != nil {
		c.abort()
		return err
	}
	conn, buffered, err := http.NewResponseController(rw).Hijack()
	if err != nil {
		c.abort()
		return fmt.Errorf("sse: take over: %w", err)
	}
	h.takenOver.Add(1)
	closed := h.o.OnTakeOver(conn)
	// net and the runtime's poller keep memory for a net.Conn, and none for a duplicate of its descriptor.
	fd, err := dup(conn)
	conn.Close()
	switch {
	case err != nil:
		h.log.Warn("taking over a connection failed", "err", err)
	case buffered.Reader.Buffered() > 0: // see watchedEvents
		unix.Close(fd)
	default:
		c.attach(fd, closed)
		return nil
	}
	h.releaseTakenOver(closed)
	c.abort()
	return nil // no response is possible any more
}

// releaseTakenOver counts a connection as closed, and calls the function that OnTakeOver returned.
func (h *Hub) releaseTakenOver(closed func()) {
	h.takenOver.Add(-1)
	if closed != nil {
		closed()
	}
}

// attach gives the connection its socket, and writes the frames kept so far.
func (c *socketConn) attach(fd int, closed func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		unix.Close(fd)
		c.hub().releaseTakenOver(closed)
		return
	}
	c.fd = int32(fd)
	if err := c.hub().poller.watch(c, closed); err != nil {
		c.closeLocked()
		return
	}
	kept := bytes.Join(c.pending.frames, nil)
	c.discardPendingLocked()
	c.writeLocked(nil, kept)
	c.signalDrainedLocked() // the replay may wait for room
	if c.closing && c.pending == nil {
		c.closeLocked()
	}
}

func (c *socketConn) hub() *Hub { return c.stream.hub }

func (c *socketConn) event(mask uint32) unix.EpollEvent {
	return unix.EpollEvent{Events: mask, Fd: c.fd, Pad: c.generation}
}

// dup duplicates the descriptor of a connection's socket. The Go runtime does not know the duplicate, so closing
// conn frees all memory for it.
func dup(conn net.Conn) (fd int, err error) {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return 0, fmt.Errorf("sse: a %T has no socket", conn)
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return 0, err
	}
	var dupErr error
	err = raw.Control(func(own uintptr) { fd, dupErr = unix.FcntlInt(own, unix.F_DUPFD_CLOEXEC, 0) })
	if err == nil {
		err = dupErr
	}
	return fd, err
}

// send implements conn.
func (c *socketConn) send(id jobs.Position, frame []byte) error {
	var buf [maxIDLine]byte
	line := idLine(buf[:0], id)
	n := len(line) + len(frame)
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed || c.closing:
		return errGone
	case c.fd < 0:
		c.queueLocked(bytes.Clone(line))
		c.queueLocked(frame)
	case c.pending == nil:
		c.writeLocked(line, frame)
	case time.Since(c.pending.progressAt) > c.hub().o.WriteTimeout:
		c.closeLocked()
		return errSlowConsumer
	case c.pending.bytes+n > c.hub().o.Backlog || c.hub().exceedsShared(n):
		return errSlowConsumer
	default:
		c.queueLocked(bytes.Clone(line))
		c.queueLocked(frame)
	}
	if c.closed {
		return errGone
	}
	return nil
}

// writeLocked writes a line, which may be empty, and a frame while nothing is pending. It keeps what the socket does not accept.
func (c *socketConn) writeLocked(line, frame []byte) {
	n, err := writeBoth(int(c.fd), line, frame)
	if rest := len(line) + len(frame) - n; err == nil && rest > 0 {
		if c.hub().exceedsTotal(rest) {
			err = errSlowConsumer // a partly written frame can only be kept, or cut with its stream
		} else {
			c.pending = &pendingWrites{progressAt: time.Now()}
			if patience := c.hub().o.WriteTimeout; patience > closeTimeout && c.hub().exceedsShared(0) {
				c.pending.progressAt = c.pending.progressAt.Add(closeTimeout - patience) // only the reserve is left: closeTimeout replaces WriteTimeout
			}
			c.queueLocked(bytes.Clone(line[min(n, len(line)):]))
			if n > len(line) { // a copy, so that a small rest does not keep the whole frame in memory
				frame = bytes.Clone(frame[n-len(line):])
			}
			c.queueLocked(frame)
			err = c.hub().poller.wantWrite(c, true)
		}
	}
	if err != nil {
		c.closeLocked()
	}
}

// queueLocked adds a frame, or a part of one, to pending, which must not be nil. It does nothing for an empty one.
func (c *socketConn) queueLocked(frame []byte) {
	if len(frame) == 0 {
		return
	}
	c.pending.append(frame)
	c.hub().pendingBytes.Add(int64(len(frame)))
}

// discardPendingLocked discards what is pending, if anything.
func (c *socketConn) discardPendingLocked() {
	if c.pending != nil {
		c.hub().pendingBytes.Add(-int64(c.pending.bytes))
		c.pending = nil // an idle stream has no buffer
	}
}

// flush writes pending frames. The poller calls it when the socket is writable.
func (c *socketConn) flush() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.pending == nil {
		return
	}
	before := c.pending.bytes
	for c.pending.bytes > 0 {
		first := c.pending.frames[0]
		n, err := write(int(c.fd), first)
		if err != nil {
			c.closeLocked()
			return
		}
		c.pending.advance(n, c.hub().o.Backlog/minProgressShare)
		c.hub().pendingBytes.Add(-int64(n))
		if n < len(first) {
			break
		}
	}
	if c.pending.bytes < before {
		c.signalDrainedLocked()
	}
	if c.pending.bytes > 0 {
		return
	}
	c.discardPendingLocked()
	if c.closing || c.hub().poller.wantWrite(c, false) != nil {
		c.closeLocked()
	}
}

// waitWritable implements conn.
func (c *socketConn) waitWritable(ctx context.Context, n int) error {
	o := &c.hub().o
	timer := time.NewTimer(o.WriteTimeout)
	defer timer.Stop()
	for {
		spare, err := c.drainSignal(n)
		if spare == nil {
			return err
		}
		select {
		case <-spare:
			timer.Reset(o.WriteTimeout)
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
			return errSlowConsumer
		}
	}
}

// signalDrainedLocked wakes waitWritable.
func (c *socketConn) signalDrainedLocked() {
	if c.drained != nil {
		close(c.drained)
		c.drained = nil
	}
}

// drainSignal returns nil if half of the backlog is free and n bytes fit. Otherwise it returns a channel that is
// closed when pending shrinks.
func (c *socketConn) drainSignal(n int) (spare <-chan struct{}, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.closing {
		return nil, errGone
	}
	backlog := c.hub().o.Backlog
	if c.pending == nil || c.pending.bytes <= backlog/2 && c.pending.bytes+n <= backlog && !c.hub().exceedsShared(n) {
		return nil, nil
	}
	if c.drained == nil {
		c.drained = make(chan struct{})
	}
	return c.drained, nil
}

// replayEnded implements conn.
func (c *socketConn) replayEnded() {}

// close implements conn.
func (c *socketConn) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.closing {
		return
	}
	c.closing = true
	if c.fd < 0 {
		return // attach closes the socket
	}
	if c.pending == nil {
		c.closeLocked()
		return
	}
	c.hub().poller.closeBy(c, time.Now().Add(min(closeTimeout, c.hub().o.WriteTimeout)))
	c.hub().poller.wakeUp()
}

// abort closes the connection at once.
func (c *socketConn) abort() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closeLocked()
}

// closeLocked closes the socket, discards what is pending, and ends the stream.
func (c *socketConn) closeLocked() {
	if c.closed {
		return
	}
	c.closed = true
	c.discardPendingLocked()
	if c.fd >= 0 {
		closed := c.hub().poller.unwatch(c)
		unix.Close(int(c.fd))
		c.hub().releaseTakenOver(closed)
	}
	go c.stream.connLost() // not here: stream.mu comes before the mu of conn, and the caller may hold it
}
