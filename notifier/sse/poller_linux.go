package sse

import (
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// poller watches the sockets of all taken-over connections with one epoll instance and one goroutine. It flushes a
// socket that is writable again, and closes one whose peer is gone.
type poller struct {
	epoll  int
	wakeFD int // an eventfd that wakes run

	mu         sync.Mutex
	sockets    []*socketConn             // by descriptor
	generation int32                     // counts the sockets; tells a new socket from an old one with the same descriptor
	closing    map[*socketConn]time.Time // the deadlines of sockets that are closing
	onClose    map[*socketConn]func()    // to be called after a socket is closed
	closed     bool
}

// watchedEvents are watched for every socket. A reader of events has nothing to send: data would fill the kernel's
// buffers, so it ends the stream, as the end of the peer does.
const watchedEvents = unix.EPOLLRDHUP | unix.EPOLLIN

// newPoller returns a poller that is not running yet.
func newPoller() (*poller, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("sse: epoll: %w", err)
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		unix.Close(epoll)
		return nil, fmt.Errorf("sse: eventfd: %w", err)
	}
	p := &poller{epoll: epoll, wakeFD: wake, closing: make(map[*socketConn]time.Time), onClose: make(map[*socketConn]func())}
	event := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(wake)}
	if err := unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, wake, &event); err != nil {
		unix.Close(wake)
		unix.Close(epoll)
		return nil, fmt.Errorf("sse: epoll: %w", err)
	}
	return p, nil
}

// watch starts to watch a socket. The caller must call unwatch later, also after an error.
func (p *poller) watch(c *socketConn, onClose func()) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if onClose != nil {
		p.onClose[c] = onClose
	}
	if p.closed {
		return ErrClosed
	}
	for len(p.sockets) <= int(c.fd) {
		p.sockets = append(p.sockets, nil)
	}
	p.generation++
	p.sockets[c.fd], c.generation = c, p.generation
	event := c.event(watchedEvents)
	if err := unix.EpollCtl(p.epoll, unix.EPOLL_CTL_ADD, int(c.fd), &event); err != nil {
		p.sockets[c.fd] = nil
		return fmt.Errorf("sse: epoll: %w", err)
	}
	return nil
}

// unwatch forgets a socket. The socket calls it right before it closes its descriptor, which removes that from the
// epoll instance. It returns the function to call after that, or nil.
func (p *poller) unwatch(c *socketConn) (onClose func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if int(c.fd) < len(p.sockets) && p.sockets[c.fd] == c {
		p.sockets[c.fd] = nil
	}
	delete(p.closing, c)
	onClose = p.onClose[c]
	delete(p.onClose, c)
	return onClose
}

// wantWrite starts or stops watching whether a socket is writable.
func (p *poller) wantWrite(c *socketConn, want bool) error {
	event := c.event(watchedEvents)
	if want {
		event.Events |= unix.EPOLLOUT
	}
	return unix.EpollCtl(p.epoll, unix.EPOLL_CTL_MOD, int(c.fd), &event)
}

// closeBy sets the deadline of a closing socket.
func (p *poller) closeBy(c *socketConn, until time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closing[c] = until
}

// run serves the sockets until stop is called and no socket is closing. It blocks.
func (p *poller) run() {
	events := make([]unix.EpollEvent, 256)
	for {
		timeout := -1
		p.mu.Lock()
		if len(p.closing) > 0 {
			timeout = 50
		}
		over := p.closed && len(p.closing) == 0
		p.mu.Unlock()
		if over {
			break
		}
		n, err := unix.EpollWait(p.epoll, events, timeout)
		if err != nil && err != unix.EINTR {
			panic(fmt.Sprintf("sse: epoll: %v", err)) // fails only for wrong arguments
		}
		for _, event := range events[:max(n, 0)] {
			p.serve(event)
		}
		for _, c := range p.expired() {
			c.abort()
		}
	}
	unix.Close(p.wakeFD)
	unix.Close(p.epoll)
}

// serve handles one event of a socket.
func (p *poller) serve(event unix.EpollEvent) {
	if int(event.Fd) == p.wakeFD {
		var drained [8]byte
		unix.Read(p.wakeFD, drained[:])
		return
	}
	p.mu.Lock()
	c := p.sockets[event.Fd]
	p.mu.Unlock()
	switch {
	case c == nil || c.generation != event.Pad: // closed meanwhile
	case event.Events&(watchedEvents|unix.EPOLLHUP|unix.EPOLLERR) != 0:
		c.abort()
	case event.Events&unix.EPOLLOUT != 0:
		c.flush()
	}
}

// expired returns the closing sockets whose deadlines have passed.
func (p *poller) expired() (all []*socketConn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	for c, until := range p.closing {
		if now.After(until) {
			all = append(all, c)
		}
	}
	return all
}

// stop makes run return once no socket is closing. All streams must have ended before.
func (p *poller) stop() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.wakeUp()
}

// wakeUp wakes run, which then checks its state.
func (p *poller) wakeUp() {
	unix.Write(p.wakeFD, []byte{1, 0, 0, 0, 0, 0, 0, 0})
}
