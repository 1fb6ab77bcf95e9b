package sse

import (
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// poller watches the sockets of all taken-over connections with one epoll set and one goroutine. It tells
// a socket when its peer is gone, and when it can be written again.
type poller struct {
	epoll int
	wake  int // an eventfd, written to end run

	mu      sync.Mutex
	sockets []*socketWire // by descriptor
	turn    int32         // counts the sockets, so that one that gets an old descriptor is not taken for the old one
	closing map[*socketWire]time.Time
	onClose map[*socketWire]func() // of those whose end somebody is to be told
	closed  bool
}

// Any socket is watched for its peer's end, and for data: a reader of events has nothing to say. What it says all the same
// would stay in the kernel's memory, and is the end of its stream.
const watched = unix.EPOLLRDHUP | unix.EPOLLIN

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
	p := &poller{epoll: epoll, wake: wake, closing: make(map[*socketWire]time.Time), onClose: make(map[*socketWire]func())}
	event := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(wake)}
	if err := unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, wake, &event); err != nil {
		unix.Close(wake)
		unix.Close(epoll)
		return nil, fmt.Errorf("sse: epoll: %w", err)
	}
	return p, nil
}

// add watches a socket from now on. If it fails, forget is still to be called.
func (p *poller) add(w *socketWire, onClose func()) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if onClose != nil {
		p.onClose[w] = onClose
	}
	if p.closed {
		return ErrClosed
	}
	for len(p.sockets) <= int(w.fd) {
		p.sockets = append(p.sockets, nil)
	}
	p.turn++
	p.sockets[w.fd], w.turn = w, p.turn
	event := w.event(watched)
	if err := unix.EpollCtl(p.epoll, unix.EPOLL_CTL_ADD, int(w.fd), &event); err != nil {
		p.sockets[w.fd] = nil
		return fmt.Errorf("sse: epoll: %w", err)
	}
	return nil
}

// forget is called by a socket right before it closes its descriptor, which ends the watching. It returns what is to be
// called after that, if anything.
func (p *poller) forget(w *socketWire) (onClose func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if int(w.fd) < len(p.sockets) && p.sockets[w.fd] == w {
		p.sockets[w.fd] = nil
	}
	delete(p.closing, w)
	onClose = p.onClose[w]
	delete(p.onClose, w)
	return onClose
}

// wantWrite asks to be told when the socket can be written again, or no more.
func (p *poller) wantWrite(w *socketWire, want bool) error {
	event := w.event(watched)
	if want {
		event.Events |= unix.EPOLLOUT
	}
	return unix.EpollCtl(p.epoll, unix.EPOLL_CTL_MOD, int(w.fd), &event)
}

// linger gives a closing socket until then for what it has to write.
func (p *poller) linger(w *socketWire, until time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closing[w] = until
}

// run serves the sockets until stop is called and all of them are closed.
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
			panic(fmt.Sprintf("sse: epoll: %v", err)) // only for arguments that are wrong
		}
		for _, event := range events[:max(n, 0)] {
			p.serve(event)
		}
		for _, w := range p.overdue() {
			w.abort()
		}
	}
	unix.Close(p.wake)
	unix.Close(p.epoll)
}

func (p *poller) serve(event unix.EpollEvent) {
	if int(event.Fd) == p.wake {
		var drained [8]byte
		unix.Read(p.wake, drained[:])
		return
	}
	p.mu.Lock()
	w := p.sockets[event.Fd]
	p.mu.Unlock()
	switch {
	case w == nil || w.turn != event.Pad: // closed meanwhile, by somebody else
	case event.Events&(watched|unix.EPOLLHUP|unix.EPOLLERR) != 0:
		w.abort()
	case event.Events&unix.EPOLLOUT != 0:
		w.flush()
	}
}

func (p *poller) overdue() (all []*socketWire) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	for w, until := range p.closing {
		if now.After(until) {
			all = append(all, w)
		}
	}
	return all
}

// stop makes run end once the sockets that still have something to write are done. The streams must have
// been ended before.
func (p *poller) stop() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.nudge()
}

// nudge wakes run up, to see what has changed.
func (p *poller) nudge() {
	unix.Write(p.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
}
