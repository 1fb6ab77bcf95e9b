package client_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/hark-jobs/hark/client"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memory is an HTTP server without sockets, so that time in a synctest bubble advances during calls. It can be down for a while.
type memory struct {
	handler http.Handler
	conns   chan net.Conn
	closed  chan struct{}

	mu   sync.Mutex
	down bool
	open []net.Conn
}

func serve(t *testing.T, handler http.Handler) (*memory, *client.Client) {
	t.Helper()
	m := &memory{handler: handler, conns: make(chan net.Conn), closed: make(chan struct{})}
	server := &http.Server{Handler: handler}
	done := make(chan struct{})
	go func() { defer close(done); server.Serve(m) }()
	transport := &http.Transport{DialContext: m.dial}
	c, err := client.New(client.Options{
		URL: "http://hark.test/", Token: "the-token", HTTPClient: &http.Client{Transport: transport},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { transport.CloseIdleConnections(); server.Close(); <-done })
	return m, c
}

// stop breaks all connections and accepts none until start.
func (m *memory) stop() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.down = true
	for _, c := range m.open {
		c.Close()
	}
	m.open = nil
}

func (m *memory) start() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.down = false
}

func (m *memory) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	m.mu.Lock()
	down := m.down
	m.mu.Unlock()
	if down {
		return nil, errors.New("connection refused")
	}
	near, far := net.Pipe()
	select {
	case m.conns <- far:
		m.mu.Lock()
		m.open = append(m.open, near)
		m.mu.Unlock()
		return near, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (m *memory) Accept() (net.Conn, error) {
	select {
	case c := <-m.conns:
		return c, nil
	case <-m.closed:
		return nil, net.ErrClosed
	}
}
func (m *memory) Close() error   { close(m.closed); return nil }
func (m *memory) Addr() net.Addr { return &net.TCPAddr{} }
