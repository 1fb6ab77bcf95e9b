package sse_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/hark-jobs/hark/internal/natstest"
	"github.com/hark-jobs/hark/internal/polltest"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/notifier/sse"
)

// deafWay is a way to serve a stream to a reader that does not read.
type deafWay struct {
	way
	each int // notifications of 4 KB that exceed such a reader's buffers, if those are of 4 KiB
	open func(s *system, user string) io.ReadCloser
}

// deafWays returns all of them, over sockets with buffers of n bytes.
func deafWays(n int) []deafWay {
	return []deafWay{
		{buffered(false, n), 20, func(s *system, user string) io.ReadCloser { return s.openDeaf(user, "") }},
		{secure("TLS", false, n), 20, openDeafTLS},
		{secure("HTTP/2", true, n), 40, openDeafHTTP2},
	}
}

// secure is HTTP over TLS.
func secure(name string, http2 bool, n int) way {
	return way{name: name, buffer: n, start: func(h http.Handler) *httptest.Server {
		s := httptest.NewUnstartedServer(h)
		s.Config.ConnState = writeBuffers(n)
		s.EnableHTTP2 = http2
		s.StartTLS()
		return s
	}}
}

// dialDeaf connects to the server over a socket with small buffers.
func dialDeaf(s *system) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, _, _ string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", s.server.Listener.Addr().String())
		if err == nil {
			conn.(*net.TCPConn).SetReadBuffer(s.way.buffer)
		}
		return conn, err
	}
}

func openDeafTLS(s *system, user string) io.ReadCloser {
	s.t.Helper()
	conn, err := dialDeaf(s)(s.t.Context(), "", "")
	if err != nil {
		s.t.Fatal(err)
	}
	config := s.server.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	config.ServerName = "example.com"
	secured := tls.Client(conn, config)
	s.t.Cleanup(func() { secured.Close() })
	fmt.Fprintf(secured, "GET / HTTP/1.1\r\nHost: x\r\nUser: %s\r\n\r\n", user)
	return secured
}

func openDeafHTTP2(s *system, user string) io.ReadCloser {
	s.t.Helper()
	ctx, cancel := context.WithCancel(s.t.Context())
	req, err := http.NewRequestWithContext(ctx, "GET", s.server.URL, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("User", user)
	transport := s.server.Client().Transport.(*http.Transport).Clone()
	transport.DialContext = dialDeaf(s)
	transport.HTTP2 = &http.HTTP2Config{MaxReceiveBufferPerStream: 64 << 10}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		s.t.Fatal(err)
	}
	if resp.ProtoMajor != 2 {
		s.t.Fatalf("over %s", resp.Proto)
	}
	d := deafHTTP2{resp.Body, func() { cancel(); resp.Body.Close(); transport.CloseIdleConnections() }}
	s.t.Cleanup(d.end)
	return d
}

type deafHTTP2 struct {
	io.Reader
	end func()
}

func (d deafHTTP2) Close() error { d.end(); return nil }

// readAll reads a user's notifications up to the one with a title. When its stream is cut it reconnects, as a browser does.
func (s *system) readAll(r *reader, user, title string) (got []string) {
	s.t.Helper()
	last := r.last
	polltest.Until(s.t, user+" has read "+title, func() bool {
		defer r.close()
		for e, open := r.next(); open; e, open = r.next() {
			got = append(got, ids(s.t, []event{e})...)
			if titled(s.t, title)(e) {
				return true
			}
			last = e.id
		}
		r = s.open(user, last)
		return false
	})
	return got
}

// The pending bytes of all slow readers together stay within the total backlog, in every way of serving. Slow readers do not
// delay other readers: at worst those are cut in the middle of an event, and reconnect. All readers get everything in the end.
func TestSlowReadersTogether(t *testing.T) {
	for _, w := range deafWays(4 << 10) {
		t.Run(w.name, func(t *testing.T) {
			const most, readers = 50 << 10, 15
			s := newSystem(t, w.way, sse.Options{Backlog: 32 << 10, TotalBacklog: most, WriteTimeout: time.Hour})
			var deaf []io.Closer
			for i := range readers {
				deaf = append(deaf, w.open(s, fmt.Sprint("user", i)))
			}
			polltest.Until(t, "open", func() bool { return s.hub.Open() == readers })
			fast := s.open("ana", "")
			fast.expect("hello")
			full := false
			for i := range w.each {
				for j := range readers {
					s.large(fmt.Sprint("user", j), fmt.Sprint(i), 3900)
				}
				s.large("ana", fmt.Sprint(i), 3900)
				owed := s.hub.PendingBytes()
				full = full || owed > most/2
				if owed > most {
					t.Fatalf("%d bytes are owed", owed)
				}
			}
			s.notify("ana", "end")
			same(t, "fast", s.readAll(fast, "ana", "end"), s.log("ana", 0))
			polltest.Until(t, "much is owed", func() bool { // a busy hub writes after all was posted
				full = full || s.hub.PendingBytes() > most/2
				return full
			})
			for i, one := range deaf {
				one.Close()
				if i%5 > 0 { // small buffers make reading slow
					continue
				}
				user := fmt.Sprint("user", i)
				again := s.open(user, jobs.Position{Epoch: s.queue.Epoch()}.String())
				same(t, user, s.readAll(again, user, fmt.Sprint(w.each-1)), s.log(user, 0))
			}
			polltest.Until(t, "nothing is owed any more", func() bool { return s.hub.Open() == 0 && s.hub.PendingBytes() == 0 })
		})
	}
}

// A reader that takes a little now and then is cut, too, in every way of serving: it would keep its backlog for ever.
func TestTricklingReaderIsCut(t *testing.T) {
	for _, w := range deafWays(32 << 10) {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			// A machine that stands still for seconds cuts a stream for which nothing is pending. That shows nothing.
			most := int64(0)
			for range 5 {
				if most = mostOwedToTrickling(t, w); most >= 1<<20 {
					return
				}
			}
			t.Errorf("only %d bytes were owed; the test is blind", most)
		})
	}
}

// mostOwedToTrickling returns the most that was pending for a reader that takes a little now and then, when it is cut.
func mostOwedToTrickling(t *testing.T, w deafWay) (most int64) {
	// 1 MiB in 3 s is the least. The reader takes 200 KB a second at most, and a buffer of its socket in much less than 3 s:
	// TCP opens its window in such steps.
	s := newSystem(t, w.way, sse.Options{Backlog: 4 << 20, WriteTimeout: 3 * time.Second, Heartbeat: time.Second})
	conn := w.open(s, "ana")
	polltest.Until(t, "open", func() bool { return s.hub.Open() == 1 })
	data := fmt.Appendf(nil, "%q", strings.Repeat("x", 15<<10))
	notices := make([]jobs.Addressed, 350)
	for i := range notices {
		notices[i] = jobs.Addressed{User: "ana", Notification: jobs.Notification{Type: "test", Title: "large", Data: data}}
	}
	if _, _, err := s.queue.NotifyAll(natstest.Context(t), notices); err != nil {
		t.Fatal(err)
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		b := make([]byte, 8<<10)
		for {
			select {
			case <-stop:
				return
			case <-time.After(40 * time.Millisecond):
			}
			if _, err := conn.Read(b); err != nil {
				return
			}
		}
	}()
	polltest.Until(t, "cut", func() bool { most = max(most, s.hub.PendingBytes()); return s.hub.Open() == 0 })
	close(stop)
	conn.Close()
	<-stopped
	return most
}

// Frames pending for several streams are kept once, and a stream's backlog is not copied as it grows.
func TestSlowReadersShareFrames(t *testing.T) {
	for _, w := range deafWays(4 << 10)[:2] { // a client of HTTP/2 has buffers of its own, in this process
		t.Run(w.name, func(t *testing.T) {
			s := newSystem(t, w.way, sse.Options{WriteTimeout: time.Hour})
			const readers = 20
			for range readers {
				w.open(s, "ana")
			}
			polltest.Until(t, "open", func() bool { return s.hub.Open() == readers })
			s.notify("ana", "first")
			before := heap()
			for i := range 60 {
				s.large("ana", fmt.Sprint(i), 3900)
			}
			// A stream counts as full with half of its backlog, and is filled further.
			polltest.Until(t, "much is owed to all", func() bool { return s.hub.PendingBytes() >= readers*40<<10 })
			owed := s.hub.PendingBytes()
			polltest.Until(t, "they hold less than half of that", func() bool { return heap()-before < owed/2 })
		})
	}
}

// Job updates that are deferred during a catch-up count as pending bytes. Streams without room for them are cut.
func TestDeferredUpdatesCountTogether(t *testing.T) {
	const most, large = 200 << 10, 20 << 10
	s := newSystem(t, ways[0], sse.Options{TotalBacklog: most, WriteTimeout: time.Hour}, func(s *system) { s.hub.DisableReplay() })
	const readers = 20
	for i := range readers {
		user := fmt.Sprint("user", i)
		s.notify(user, "missed")
		s.open(user, jobs.Position{Epoch: s.queue.Epoch()}.String()).expect("hello")
	}
	full := false
	for i := range 2 {
		for j := range readers {
			id := fmt.Sprintf("%s%06d", jobID[:20], i)
			s.put(&jobs.Job{ID: id, User: fmt.Sprint("user", j), Kind: "k", State: jobs.Succeeded, Run: 1, Result: fmt.Appendf(nil, "%q", strings.Repeat("x", large))}, 0)
			owed := s.hub.PendingBytes()
			if full = full || owed > most/2; owed > most+2*large { // one is counted before its stream is cut
				t.Fatalf("%d bytes are owed", owed)
			}
		}
	}
	if !full {
		t.Error("little was owed; the test is blind")
	}
	polltest.Until(t, "some are cut, and others not", func() bool { n := s.hub.Open(); return n > 0 && n < readers })
}
