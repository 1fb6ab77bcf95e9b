package sse_test

import (
	"net"
	"sync"
	"testing"
)

// proxy stands between the hub and NATS and can cut what passes through it.
type proxy struct {
	listener net.Listener
	target   string
	work     sync.WaitGroup

	mu    sync.Mutex
	down  bool
	conns map[net.Conn]bool // whether packets pass
}

func newProxy(t testing.TB, target string) *proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: listener, target: target, conns: make(map[net.Conn]bool)}
	p.work.Go(p.accept)
	t.Cleanup(func() {
		listener.Close()
		p.cut()
		p.work.Wait()
	})
	return p
}

func (p *proxy) addr() string { return p.listener.Addr().String() }

func (p *proxy) accept() {
	for {
		conn, err := p.listener.Accept()
		if err != nil {
			return
		}
		up, err := net.Dial("tcp", p.target)
		p.mu.Lock()
		if err != nil || p.down {
			conn.Close()
			if err == nil {
				up.Close()
			}
			p.mu.Unlock()
			continue
		}
		p.conns[conn], p.conns[up] = true, true
		p.mu.Unlock()
		p.work.Go(func() { p.pass(conn, up) })
		p.work.Go(func() { p.pass(up, conn) })
	}
}

func (p *proxy) pass(to, from net.Conn) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if err != nil {
			break
		}
		if p.isFrozen(from) {
			continue // the packets vanish
		}
		if _, err := to.Write(buf[:n]); err != nil {
			break
		}
	}
	to.Close()
	from.Close()
	p.mu.Lock()
	delete(p.conns, to)
	delete(p.conns, from)
	p.mu.Unlock()
}

// freeze makes all packets on the open connections vanish. New connections work.
func (p *proxy) freeze() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for conn := range p.conns {
		p.conns[conn] = false
	}
}

func (p *proxy) isFrozen(conn net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	passes, open := p.conns[conn]
	return open && !passes
}

// cut ends every connection and lets none in until restore.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = true
	for conn := range p.conns {
		conn.Close()
	}
}

func (p *proxy) restore() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = false
}
