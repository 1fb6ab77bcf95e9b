package natstest

import (
	"net"
	"sync"
	"testing"
	"time"
)

// Relay is a network between clients and a server that can stop to carry anything. Its methods are safe for concurrent use.
type Relay struct {
	listener net.Listener
	to       string
	running  sync.WaitGroup

	mu     sync.Mutex
	moving sync.Cond // frozen or ended has changed
	frozen bool
	ended  bool
	conns  map[net.Conn]bool
}

// NewRelay returns a relay to the server at host:port, which ends with the test.
func NewRelay(t testing.TB, to string) *Relay {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &Relay{listener: l, to: to, conns: make(map[net.Conn]bool)}
	r.moving.L = &r.mu
	r.running.Go(r.accept)
	t.Cleanup(func() {
		l.Close()
		r.mu.Lock()
		r.ended = true
		r.moving.Broadcast()
		for c := range r.conns {
			c.Close()
		}
		r.mu.Unlock()
		r.running.Wait()
	})
	return r
}

// Addr returns where clients connect, as host:port.
func (r *Relay) Addr() string { return r.listener.Addr().String() }

// Freeze holds up all that comes, in both directions, and all new connections. The connections stay open.
func (r *Relay) Freeze() { r.set(true) }

// Thaw ends Freeze. What was held up goes on.
func (r *Relay) Thaw() { r.set(false) }

func (r *Relay) set(frozen bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.frozen = frozen
	r.moving.Broadcast()
}

// pass blocks while the relay is frozen. It returns false if the relay has ended.
func (r *Relay) pass() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.frozen && !r.ended {
		r.moving.Wait()
	}
	return !r.ended
}

// add notes a connection that the end of the relay closes. It returns false if the relay has ended.
func (r *Relay) add(c net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended {
		c.Close()
		return false
	}
	r.conns[c] = true
	return true
}

func (r *Relay) remove(c net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c.Close()
	delete(r.conns, c)
}

func (r *Relay) accept() {
	for {
		c, err := r.listener.Accept()
		if err != nil {
			return
		}
		r.running.Go(func() { r.serve(c) })
	}
}

func (r *Relay) serve(client net.Conn) {
	if !r.add(client) {
		return
	}
	defer r.remove(client)
	if !r.pass() {
		return
	}
	server, err := net.DialTimeout("tcp", r.to, 5*time.Second)
	if err != nil || !r.add(server) {
		return
	}
	defer r.remove(server)
	var back sync.WaitGroup
	back.Go(func() { r.carry(client, server) })
	r.carry(server, client)
	back.Wait()
}

// carry copies what comes, until one of the two ends, and closes both.
func (r *Relay) carry(to, from net.Conn) {
	defer to.Close()
	defer from.Close()
	for buf := make([]byte, 32<<10); ; {
		n, err := from.Read(buf)
		if !r.pass() || err != nil {
			return
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}
