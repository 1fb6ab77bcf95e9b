package e2e_test

import (
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// relay is a network between browser and hark that can be cut.
type relay struct {
	listener net.Listener
	to       string
	group    sync.WaitGroup

	mu    sync.Mutex
	cut   bool
	conns map[net.Conn]bool
}

// newRelay returns a relay to the hark at url, which ends with the test, and the relay's own URL.
func newRelay(t *testing.T, url string) (*relay, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{listener: l, to: strings.TrimPrefix(url, "http://"), conns: make(map[net.Conn]bool)}
	r.group.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			r.group.Go(func() { r.carry(conn) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		r.Cut(true)
		r.group.Wait()
		http.DefaultClient.CloseIdleConnections()
	})
	return r, "http://" + l.Addr().String()
}

// Cut ends all connections and refuses new ones, or stops doing so.
func (r *relay) Cut(cut bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cut = cut
	if cut {
		for conn := range r.conns {
			conn.Close()
		}
	}
}

// add notes a connection that Cut closes, and reports whether it may go on.
func (r *relay) add(conn net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cut {
		conn.Close()
		return false
	}
	r.conns[conn] = true
	return true
}

func (r *relay) remove(conn net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	conn.Close()
	delete(r.conns, conn)
}

func (r *relay) carry(from net.Conn) {
	if !r.add(from) {
		return
	}
	defer r.remove(from)
	to, err := net.Dial("tcp", r.to)
	if err != nil || !r.add(to) {
		return
	}
	defer r.remove(to)
	var back sync.WaitGroup
	back.Go(func() {
		_, _ = io.Copy(from, to)
		from.Close()
	})
	_, _ = io.Copy(to, from)
	to.Close()
	back.Wait()
}
