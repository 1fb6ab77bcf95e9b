package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// reader is the event stream of a user. Its arrivals may be read while its crowd is locked or closed.
type reader struct {
	user  int
	deaf  bool // reads up to hello and never again
	fd    int  // -1 while there is no connection
	state readerState
	parse parser
	last  []byte // the last event id
	opens int
	hello int64 // when the last hello was read, Unix nanoseconds
	got   []arrival
}

type readerState uint8

const (
	closed readerState = iota
	connecting
	asked // for the stream
	open
)

// crowd is a set of readers, one for each of the first users, and the goroutine that reads them all.
type crowd struct {
	server *server
	addr   netip.AddrPort
	epoll  int
	done   chan struct{} // closed when the goroutine has ended

	arrived    atomic.Int64 // notifications of single users, at all readers
	broadcasts atomic.Int64 // broadcasts, at all readers
	live       atomic.Int64 // live events, at all readers
	missed     atomic.Int64 // missed events, at all readers
	opened     atomic.Int64 // open streams

	mu      sync.Mutex
	readers []*reader
	byFD    map[int32]*reader
	waiting []*reader // to be opened
	opening int
	window  int  // the largest number of streams that are opening
	again   bool // readers reconnect when their stream ends
	held    bool // no reader connects for now
	ended   int  // ended streams of readers that are not deaf
	refused int  // connections
	err     error
	closing bool
}

// newCrowd starts the goroutine, without open streams. The readers with indexes from deaf on are deaf.
func newCrowd(s *server, n, deaf int) (*crowd, error) {
	addr, err := netip.ParseAddrPort(s.addr)
	if err != nil {
		return nil, err
	}
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	c := &crowd{server: s, addr: addr, epoll: epoll, done: make(chan struct{}), byFD: make(map[int32]*reader, n)}
	for i := range n {
		c.readers = append(c.readers, &reader{user: i, deaf: i >= deaf, fd: -1})
	}
	go c.run()
	return c, nil
}

// openAll opens all streams, a batch at a time, and waits for their hello events.
func (c *crowd) openAll(ctx context.Context, window int) error {
	c.mu.Lock()
	c.window = window
	c.waiting = append(c.waiting, c.readers...)
	c.pump()
	c.mu.Unlock()
	return until(ctx, 2*time.Minute, "all streams to open", func() (bool, error) {
		return int(c.opened.Load()) == len(c.readers), c.check()
	})
}

// check returns what went wrong so far.
func (c *crowd) check() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended > 0 && !c.again && c.err == nil {
		return fmt.Errorf("%w: %d", errEnded, c.ended)
	}
	return c.err
}

// close closes all streams.
func (c *crowd) close() {
	c.mu.Lock()
	c.closing = true
	c.mu.Unlock()
	<-c.done
}

// run reads until the crowd is closed.
func (c *crowd) run() {
	defer close(c.done)
	defer unix.Close(c.epoll)
	in := newReceiver()
	events := make([]unix.EpollEvent, 512)
	timeout := 0
	for {
		n, err := unix.EpollWait(c.epoll, events, timeout)
		c.mu.Lock()
		if err != nil && err != unix.EINTR {
			c.fail(os.NewSyscallError("epoll_wait", err))
		}
		for i := range max(n, 0) {
			if r := c.byFD[events[i].Fd]; r != nil {
				c.handle(r, events[i].Events, in)
			}
		}
		c.pump()
		timeout = 50 // to notice that the crowd closes
		if len(c.waiting) > 0 && !c.held && c.opening < c.window {
			timeout = 1
		}
		if c.closing || c.err != nil {
			c.closeAll()
			c.mu.Unlock()
			return
		}
		c.mu.Unlock()
	}
}

func (c *crowd) fail(err error) {
	if c.err == nil {
		c.err = err
	}
}

func (c *crowd) closeAll() {
	for _, r := range c.readers {
		c.drop(r)
	}
}

// pump connects some waiting readers. The lock must be held, also for all functions below.
func (c *crowd) pump() {
	const most = 256 // before connected readers are read again
	for range min(most, len(c.waiting)) {
		if c.held || c.opening >= c.window {
			return
		}
		r := c.waiting[0]
		c.waiting = c.waiting[1:]
		fd, err := dial(c.addr, r.user+r.opens, r.deaf)
		if errors.Is(err, unix.ECONNREFUSED) {
			c.refused++
			c.waiting = append(c.waiting, r)
			continue
		}
		if err == nil {
			r.fd, r.state, r.parse = fd, connecting, parser{}
			c.byFD[int32(fd)] = r
			c.opening++
			err = c.control(unix.EPOLL_CTL_ADD, r, unix.EPOLLOUT)
		}
		if err != nil {
			c.fail(fmt.Errorf("connect: %w", err))
			return
		}
	}
}

func (c *crowd) control(op int, r *reader, events uint32) error {
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(c.epoll, op, r.fd, &unix.EpollEvent{Events: events, Fd: int32(r.fd)}))
}

// drop closes a reader's connection.
func (c *crowd) drop(r *reader) {
	if r.fd < 0 {
		return
	}
	delete(c.byFD, int32(r.fd))
	unix.Close(r.fd)
	switch r.state {
	case connecting, asked:
		c.opening--
	case open:
		c.opened.Add(-1)
	}
	r.fd, r.state = -1, closed
}

// lose records the end of a reader's connection.
func (c *crowd) lose(r *reader) {
	was := r.state
	c.drop(r)
	switch {
	case r.deaf && was == open: // expected
	case c.again:
		c.waiting = append(c.waiting, r)
	default:
		c.ended++
	}
}

func (c *crowd) handle(r *reader, events uint32, in *receiver) {
	if r.state == connecting {
		c.ask(r)
		return
	}
	if r.deaf && r.state == open { // only the end is polled for
		c.lose(r)
		return
	}
	b, stamp, err := in.receive(r.fd)
	switch {
	case err == unix.EAGAIN || err == unix.EINTR:
		return
	case err != nil || len(b) == 0:
		c.lose(r)
		return
	}
	now := time.Now().UnixNano()
	if stamp == 0 {
		stamp = now
	}
	err = r.parse.feed(b, func(name, id, data []byte) error { return c.event(r, name, id, data, stamp, now) })
	if err != nil {
		c.fail(fmt.Errorf("stream of %s: %w", userName(r.user), err))
	}
}

// ask sends the request on a connection that was established, or records its refusal.
func (c *crowd) ask(r *reader) {
	errno, err := unix.GetsockoptInt(r.fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err == nil && errno != 0 {
		c.drop(r)
		c.refused++
		c.waiting = append(c.waiting, r)
		return
	}
	path := "/v1/stream"
	if c.server.topic != nil {
		path += "?topic=" + c.server.topic(r.user)
	}
	request := "GET " + path + " HTTP/1.1\r\nHost: " + c.server.addr + "\r\n" + c.server.user(r.user) + "Accept: text/event-stream\r\n"
	if len(r.last) > 0 {
		request += "Last-Event-ID: " + string(r.last) + "\r\n"
	}
	if err == nil {
		_, err = unix.Write(r.fd, []byte(request+"\r\n"))
	}
	if err != nil {
		c.lose(r)
		return
	}
	r.state = asked
	if err := c.control(unix.EPOLL_CTL_MOD, r, unix.EPOLLIN); err != nil {
		c.fail(err)
	}
}

// event records an event of a stream.
func (c *crowd) event(r *reader, name, id, data []byte, stamp, now int64) error {
	if len(id) > 0 {
		r.last = append(r.last[:0], id...)
	}
	switch string(name) {
	case "hello":
		if r.state != asked {
			return errors.New("a second hello")
		}
		r.state, r.hello = open, now
		r.opens++
		c.opening--
		c.opened.Add(1)
		if r.deaf {
			return c.control(unix.EPOLL_CTL_MOD, r, 0)
		}
	case "notification":
		n, all, err := noteOf(data)
		if err != nil {
			return err
		}
		seq, err := seqOf(idOf(data))
		if err != nil {
			return err
		}
		r.got = append(r.got, arrival{n, seq, stamp, now})
		if all {
			c.broadcasts.Add(1)
		} else {
			c.arrived.Add(1)
		}
	case "live":
		c.live.Add(1)
	case "missed":
		c.missed.Add(1)
	case "reset", "bye":
		return fmt.Errorf("%s: %s", name, data)
	}
	return nil
}
