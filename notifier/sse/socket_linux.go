package sse

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// socketWire is a connection taken over from net/http and kept as little more than its socket: no goroutine,
// no buffer while nothing is owed. Writes do not block; what the socket does not take is kept, within the
// limit, and written when the poller says that it can be.
type socketWire struct {
	stream *stream // told when nothing can be sent any more
	fd     int32   // -1 until attach
	turn   int32   // the poller's

	mu      sync.Mutex
	debt    *debt         // nil while nothing is owed
	spare   chan struct{} // closed when less is owed; nil while nobody waits for that
	closing bool          // to be closed when nothing is owed any more
	closed  bool
}

// debt is what a socket has not taken yet. Few owe anything. Whole frames are not copied: those of other streams may be the
// same.
type debt struct {
	frames [][]byte  // the first one without what was taken of it
	size   int       // bytes owed
	since  time.Time // when the reader had last taken enough
	taken  int       // bytes taken since then
}

func (d *debt) add(frame []byte) {
	d.frames = append(d.frames, frame)
	d.size += len(frame)
}

// leastShare is the part of the backlog that a reader must take in each [Options.Patience], unless it takes all it is owed.
const leastShare = 4

// take counts n bytes as taken.
func (d *debt) take(n, least int) {
	d.size -= n
	if d.taken += n; d.taken >= least {
		d.since, d.taken = time.Now(), 0
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

// canTakeOver reports whether the connection of a request can be taken over: it is HTTP/1.1 over plain TCP,
// which is what stands behind every proxy.
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

// serveTakenOver opens the stream on the connection of the request, takes the connection over, and returns.
func (h *Hub) serveTakenOver(rw http.ResponseWriter, r *http.Request, sub Subscriber) error {
	// A stream and its wire live and end together: as one object they cost the allocator less than as two.
	both := &struct {
		stream stream
		wire   socketWire
	}{}
	s, w := &both.stream, &both.wire
	s.init(h, w, sub)
	// What the stream has to say is kept until the connection is there to take it, behind the head.
	w.stream, w.fd, w.debt = s, -1, &debt{}
	w.owe(responseHead(rw.Header()))
	if err := h.begin(r.Context(), s, sub); err != nil {
		w.abort()
		return err
	}
	conn, buffered, err := http.NewResponseController(rw).Hijack()
	if err != nil {
		w.abort()
		return fmt.Errorf("sse: take over: %w", err)
	}
	h.taken.Add(1)
	closed := h.o.Taken(conn)
	// net and the runtime's poller keep something for conn; a descriptor that they do not know of costs nothing.
	fd, err := dup(conn)
	conn.Close()
	switch {
	case err != nil:
		h.log.Warn("connection not taken over", "err", err)
	case buffered.Reader.Buffered() > 0: // see watched
		unix.Close(fd)
	default:
		w.attach(fd, closed)
		return nil
	}
	h.untake(closed)
	w.abort()
	return nil // there is nobody left to be told
}

// untake counts a connection no more that was taken over.
func (h *Hub) untake(closed func()) {
	h.taken.Add(-1)
	if closed != nil {
		closed()
	}
}

// attach gives the wire its socket, and writes what it owes by then.
func (w *socketWire) attach(fd int, closed func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		unix.Close(fd)
		w.hub().untake(closed)
		return
	}
	w.fd = int32(fd)
	if err := w.hub().poller.add(w, closed); err != nil {
		w.finish()
		return
	}
	owed := bytes.Join(w.debt.frames, nil)
	w.paid()
	w.put(owed)
	w.wake() // the log may have been read meanwhile
	if w.closing && w.debt == nil {
		w.finish()
	}
}

func (w *socketWire) hub() *Hub { return w.stream.hub }

func (w *socketWire) event(mask uint32) unix.EpollEvent {
	return unix.EpollEvent{Events: mask, Fd: w.fd, Pad: w.turn}
}

// dup returns a descriptor of the connection's socket that the Go runtime knows nothing of: closing conn
// frees what net and the runtime's poller keep for it.
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

// send implements wire.
func (w *socketWire) send(frame []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.closed || w.closing:
		return errGone
	case w.fd < 0:
		w.owe(frame)
	case w.debt == nil:
		w.put(frame)
	case time.Since(w.debt.since) > w.hub().o.Patience:
		w.finish()
		return errSlow
	case w.debt.size+len(frame) > w.hub().o.Backlog || w.hub().owesTooMuch(len(frame)):
		return errSlow
	default:
		w.owe(frame)
	}
	if w.closed {
		return errGone
	}
	return nil
}

// put writes a frame while nothing is owed, and keeps what the socket does not take. The lock is held.
func (w *socketWire) put(frame []byte) {
	n, err := write(int(w.fd), frame)
	if err == nil && n < len(frame) {
		if w.hub().owesTooMuch(len(frame) - n) {
			err = errSlow // a frame that was begun can only be kept, or broken off with its stream
		} else {
			w.debt = &debt{since: time.Now()}
			if n > 0 { // what is left of it is this stream's alone, and may be little
				frame = bytes.Clone(frame[n:])
			}
			w.owe(frame)
			err = w.hub().poller.wantWrite(w, true)
		}
	}
	if err != nil {
		w.finish()
	}
}

// owe keeps what the socket has not taken. The lock is held, and there is a debt.
func (w *socketWire) owe(frame []byte) {
	w.debt.add(frame)
	w.hub().owed.Add(int64(len(frame)))
}

// paid drops the debt, if there is one. The lock is held.
func (w *socketWire) paid() {
	if w.debt != nil {
		w.hub().owed.Add(-int64(w.debt.size))
		w.debt = nil // an idle stream keeps no buffer
	}
}

// write writes what the socket takes right now.
func write(fd int, p []byte) (n int, err error) {
	for {
		n, err = unix.Write(fd, p)
		switch err {
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			return 0, nil
		}
		return max(n, 0), err
	}
}

// flush writes what is owed, as far as the socket takes it. The poller calls it when it does again.
func (w *socketWire) flush() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed || w.debt == nil {
		return
	}
	before := w.debt.size
	for w.debt.size > 0 {
		first := w.debt.frames[0]
		n, err := write(int(w.fd), first)
		if err != nil {
			w.finish()
			return
		}
		w.debt.take(n, w.hub().o.Backlog/leastShare)
		w.hub().owed.Add(-int64(n))
		if n < len(first) {
			break
		}
	}
	if w.debt.size < before {
		w.wake()
	}
	if w.debt.size > 0 {
		return
	}
	w.paid()
	if w.closing || w.hub().poller.wantWrite(w, false) != nil {
		w.finish()
	}
}

// room implements wire.
func (w *socketWire) room(ctx context.Context, n int) error {
	o := &w.hub().o
	timer := time.NewTimer(o.Patience)
	defer timer.Stop()
	for {
		spare, err := w.full(n)
		if spare == nil {
			return err
		}
		select {
		case <-spare:
			timer.Reset(o.Patience)
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
			return errSlow
		}
	}
}

// wake tells those who wait that less is owed. The lock is held.
func (w *socketWire) wake() {
	if w.spare != nil {
		close(w.spare)
		w.spare = nil
	}
}

// full returns what to wait for if there is no room for n bytes and some more, and nil if there is.
func (w *socketWire) full(n int) (spare <-chan struct{}, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed || w.closing {
		return nil, errGone
	}
	backlog := w.hub().o.Backlog
	if w.debt == nil || w.debt.size <= backlog/2 && w.debt.size+n <= backlog && !w.hub().owesTooMuch(n) {
		return nil, nil
	}
	if w.spare == nil {
		w.spare = make(chan struct{})
	}
	return w.spare, nil
}

// close implements wire.
func (w *socketWire) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed || w.closing {
		return
	}
	w.closing = true
	if w.fd < 0 {
		return // attach closes
	}
	if w.debt == nil {
		w.finish()
		return
	}
	w.hub().poller.linger(w, time.Now().Add(min(lastWord, w.hub().o.Patience)))
	w.hub().poller.nudge()
}

// abort ends the wire at once.
func (w *socketWire) abort() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.finish()
}

// finish closes the socket. The lock is held.
func (w *socketWire) finish() {
	if w.closed {
		return
	}
	w.closed = true
	w.paid()
	if w.fd >= 0 {
		closed := w.hub().poller.forget(w)
		unix.Close(int(w.fd))
		w.hub().untake(closed)
	}
	go w.stream.lost() // which takes the lock of the stream; whoever finishes may hold it
}
