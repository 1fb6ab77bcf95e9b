package sse_test

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hark-jobs/hark/internal/natstest"
	"github.com/hark-jobs/hark/internal/polltest"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/notifier/sse"
)

// byeCode returns the code of a bye.
func byeCode(t testing.TB, e event) string {
	t.Helper()
	return decode[struct{ Code string }](t, e.data).Code
}

// One stream too many ends the oldest, also when streams open fast.
func TestTooManyStreams(t *testing.T) {
	each(t, func(t *testing.T, w way) {
		s := newSystem(t, w, sse.Options{MaxStreams: 2})
		other := s.open("bob", "")
		other.expect("hello")
		var readers []*reader
		for range 8 {
			readers = append(readers, s.open("ana", ""))
		}
		for _, r := range readers[:6] {
			got := r.ended()
			if last := got[len(got)-1]; last.name != "bye" || byeCode(t, last) != "too_many_streams" || last.retry != 60_000 {
				t.Errorf("%+v", got)
			}
		}
		polltest.Until(t, "three open", func() bool { return s.hub.Open() == 3 })
		s.notify(jobs.Everyone, "still here")
		for _, r := range append(readers[6:], other) {
			r.until(titled(t, "still here"))
			r.close()
		}
		polltest.Until(t, "none open", func() bool { return s.hub.Open() == 0 && s.hub.Users() == 0 })
	})
}

// Streams that open all at once never come to more than the limit.
func TestTooManyAtOnce(t *testing.T) {
	t.Parallel()
	s := newSystem(t, ways[0], sse.Options{MaxStreams: 3})
	readers := make(chan *reader)
	for range 30 {
		go func() { r, _ := s.tryOpen("ana", ""); readers <- r }()
	}
	for range 30 {
		if r := <-readers; r == nil {
			t.Error("not opened")
		}
		if n := s.hub.Open(); n > 3 {
			t.Errorf("%d open", n)
		}
	}
}

// A hub that shuts down sends a bye on every stream and refuses new streams.
func TestDrain(t *testing.T) {
	each(t, func(t *testing.T, w way) {
		s := newSystem(t, w, sse.Options{Drain: 400 * time.Millisecond})
		var readers []*reader
		for i := range 12 {
			readers = append(readers, s.open(fmt.Sprint("user", i), ""))
			readers[i].expect("hello")
		}
		s.stop()
		var retries []int
		for _, r := range readers {
			e := r.expect("bye")
			if byeCode(t, e) != "shutting_down" || e.retry < 100 || e.retry > 500 {
				t.Errorf("%+v", e)
			}
			retries = append(retries, e.retry)
			if rest := r.ended(); len(rest) > 0 {
				t.Errorf("after bye: %+v", rest)
			}
			if err := <-s.served; err != nil {
				t.Error(err)
			}
		}
		if slices.Min(retries) == slices.Max(retries) {
			t.Errorf("all come back at once: %v", retries)
		}
		if r, status := s.tryOpen("ana", ""); r != nil || status != http.StatusServiceUnavailable {
			t.Errorf("opened: %d", status)
		}
		if err := <-s.served; !errors.Is(err, sse.ErrClosed) {
			t.Error(err)
		}
	})
}

func TestTokenExpires(t *testing.T) {
	each(t, func(t *testing.T, w way) {
		s := newSystem(t, w, sse.Options{})
		at := time.Now().Add(1200 * time.Millisecond).UTC()
		r := s.open("ana", "", "Expires", at.Format(time.RFC3339Nano))
		forever, later := s.open("ana", ""), s.open("ana", "", "Expires", at.Add(time.Hour).Format(time.RFC3339Nano))
		r.expect("hello")
		e := r.expect("auth")
		if got := decode[struct {
			At time.Time `json:"expires_at"`
		}](t, e.data); !got.At.Equal(at) {
			t.Errorf("%+v, expected %v", e, at)
		}
		if e := r.expect("bye"); byeCode(t, e) != "token_expired" {
			t.Errorf("%+v", e)
		}
		if time.Now().Before(at) {
			t.Error("ended before its time")
		}
		r.ended()
		s.notify("ana", "on")
		for _, r := range []*reader{forever, later} {
			r.expect("hello")
			r.expect("notification")
		}
	})
}

// A silent stream has a heartbeat that a page can see, and it moves no position.
func TestHeartbeat(t *testing.T) {
	eachOf(t, streams, func(t *testing.T, w way) {
		s := newSystem(t, w, sse.Options{Heartbeat: time.Second})
		r := s.open("ana", "")
		hello := r.expect("hello")
		for range 2 {
			select {
			case e := <-r.events:
				if e.name != heartbeat || e.id != hello.id || e.data != "{}" {
					t.Errorf("%+v", e)
				}
			case <-time.After(patience):
				t.Fatal("nothing came")
			}
		}
	})
}

// A stream that cannot learn the end of the log is not opened, and leaves nothing behind.
func TestServeFails(t *testing.T) {
	t.Parallel()
	var fail func(error)
	s := newSystem(t, ways[0], sse.Options{}, func(s *system) { fail = s.hub.FailBounds() })
	r := s.open("ana", "")
	r.expect("hello")
	r.close()
	polltest.Until(t, "closed", func() bool { return s.hub.Open() == 0 })
	<-s.served
	broken := errors.New("broken")
	fail(broken)
	if r, status := s.tryOpen("ana", ""); r != nil || status != http.StatusServiceUnavailable {
		t.Errorf("opened: %d", status)
	}
	if err := <-s.served; !errors.Is(err, broken) {
		t.Error(err)
	}
	polltest.Until(t, "nothing of it is left", func() bool { return s.hub.Open() == 0 && s.hub.Users() == 0 })
	fail(nil)
	for _, user := range []string{"", jobs.Everyone} {
		if r, _ := s.tryOpen(user, ""); r != nil {
			t.Errorf("opened for %q", user)
		}
	}
	s.open("ana", "").expect("hello")
}

// Notifications that are larger than the backlog are read whole, too.
func TestLargerThanBacklog(t *testing.T) {
	each(t, func(t *testing.T, w way) {
		s := newSystem(t, w, sse.Options{Backlog: 1000})
		first := s.notify("ana", "first")
		for i := range 40 {
			s.large("ana", fmt.Sprint(i), 10+i*22)
		}
		r := s.open("ana", after(first))
		for i := range 40 {
			s.large("ana", fmt.Sprint("live ", i), 3900)
		}
		s.notify("ana", "end")
		same(t, "ana", ids(t, r.until(titled(t, "end"))), s.log("ana", first.Seq))
	})
}

func (s *system) large(user, title string, n int) {
	s.t.Helper()
	_, _, err := s.queue.Notify(natstest.Context(s.t), user, jobs.Notification{Type: "test", Title: title, Body: strings.Repeat("x", n)})
	if err != nil {
		s.t.Fatal(err)
	}
}

// A reader that takes nothing is cut. It delays no other stream, and gets everything after it reconnects.
func TestSlowReader(t *testing.T) {
	for _, ordinary := range []bool{false, true} {
		t.Run(fmt.Sprintf("ordinary %t", ordinary), func(t *testing.T) { t.Parallel(); testSlowReader(t, ordinary) })
	}
}

// smallBuffers is HTTP/1.1 over sockets with small buffers.
func smallBuffers(ordinary bool) way { return buffered(ordinary, 4<<10) }

// buffered is the same with buffers of n bytes.
func buffered(ordinary bool, n int) way {
	return way{name: "plain", buffer: n, start: func(h http.Handler) *httptest.Server {
		s := httptest.NewUnstartedServer(h)
		s.Config.ConnState = writeBuffers(n)
		s.Start()
		return s
	}, ordinary: ordinary}
}

// writeBuffers lets each new connection have n bytes that its peer has not taken.
func writeBuffers(n int) func(net.Conn, http.ConnState) {
	return func(c net.Conn, state http.ConnState) {
		if state != http.StateNew {
			return
		}
		if t, ok := c.(*tls.Conn); ok {
			c = t.NetConn()
		}
		c.(*net.TCPConn).SetWriteBuffer(n)
	}
}

// openDeaf opens a stream that nobody reads.
func (s *system) openDeaf(user, lastID string) net.Conn {
	s.t.Helper()
	return s.openDeafTo(user, lastID, "")
}

// openDeafTo opens a stream with topics that nobody reads.
func (s *system) openDeafTo(user, lastID, topics string) net.Conn {
	s.t.Helper()
	conn, err := net.Dial("tcp", s.server.Listener.Addr().String())
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { conn.Close() })
	conn.(*net.TCPConn).SetReadBuffer(s.way.buffer)
	fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: x\r\nUser: %s\r\nLast-Event-ID: %s\r\nTopics: %s\r\n\r\n", user, lastID, topics)
	return conn
}

// A reader that has missed much and takes nothing costs its backlog, and no pages of the log.
func TestSlowReaderHoldsLittle(t *testing.T) {
	for _, ordinary := range []bool{false, true} {
		t.Run(fmt.Sprintf("ordinary %t", ordinary), func(t *testing.T) {
			s := newSystem(t, smallBuffers(ordinary), sse.Options{WriteTimeout: time.Hour})
			first := after(s.notify("ana", "first"))
			data := fmt.Appendf(nil, "%q", strings.Repeat("x", 15<<10))
			for range 300 {
				if _, _, err := s.queue.Notify(natstest.Context(t), "ana", jobs.Notification{Type: "test", Title: "large", Data: data}); err != nil {
					t.Fatal(err)
				}
			}
			before := heap()
			const streams = 20
			for range streams {
				s.openDeaf("ana", first)
			}
			polltest.Until(t, "all readers are owed what they may be", func() bool { return s.hub.FullStreams() == streams })
			polltest.Until(t, "they hold little more than that", func() bool { return heap()-before < streams<<20 })
		})
	}
}

// heap is how many bytes are in use.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func testSlowReader(t *testing.T, ordinary bool) {
	s := newSystem(t, smallBuffers(ordinary), sse.Options{Backlog: 16 << 10, WriteTimeout: 300 * time.Millisecond})
	conn := s.openDeaf("ana", "")
	polltest.Until(t, "open", func() bool { return s.hub.Open() == 1 })
	fast := s.open("ana", "")
	fast.expect("hello")
	for i := range 100 {
		s.large("ana", fmt.Sprint(i), 3900)
	}
	s.notify("ana", "end")
	same(t, "fast", ids(t, fast.until(titled(t, "end"))), s.log("ana", 0))
	polltest.Until(t, "cut", func() bool { return s.hub.Open() == 1 })
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var got []event
	_ = parse(resp.Body, func(e event) { got = append(got, e) })
	if len(got) > 60 {
		t.Errorf("%d events were owed to a reader that took none", len(got))
	}
	again := s.open("ana", got[len(got)-1].id)
	got = append(got, again.until(titled(t, "end"))...)
	same(t, "slow", ids(t, got), s.log("ana", 0))
}

// A stream with nothing pending may be idle for longer than WriteTimeout.
func TestIdleReaderIsNotCut(t *testing.T) {
	each(t, func(t *testing.T, w way) {
		const patience = 100 * time.Millisecond
		s := newSystem(t, w, sse.Options{WriteTimeout: patience, Heartbeat: time.Minute})
		r := s.open("ana", "")
		r.expect("hello")
		for i := range 3 {
			time.Sleep(3 * patience) // nothing is to happen meanwhile
			s.notify("ana", fmt.Sprint(i))
			r.until(titled(t, fmt.Sprint(i)))
		}
	})
}
