package sse_test

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hark-jobs/hark/internal/polltest"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/notifier/sse"
)

// overHTTP2 serves streams over HTTP/2. Its readers share one connection, and each may be sent 64 KiB that it has not read.
func overHTTP2(t *testing.T, o sse.Options) *system {
	t.Helper()
	w := streams[len(streams)-1]
	s := newSystem(t, w, o)
	s.server.Client().Transport.(*http.Transport).HTTP2 = &http.HTTP2Config{MaxReceiveBufferPerStream: 64 << 10}
	return s
}

// openUnread opens a stream and leaves it to be read.
func (s *system) openUnread(user, lastID string) *http.Response {
	s.t.Helper()
	ctx, cancel := context.WithCancel(s.t.Context())
	req, err := http.NewRequestWithContext(ctx, "GET", s.server.URL, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("User", user)
	req.Header.Set("Last-Event-ID", lastID)
	res, err := s.server.Client().Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { cancel(); res.Body.Close() })
	if res.ProtoMajor != 2 {
		s.t.Fatalf("it is %s", res.Proto)
	}
	return res
}

// A slow reader over HTTP/2 is cut. It delays no other stream, not even on its connection. It gets everything after it reconnects.
func TestSlowReaderOverHTTP2(t *testing.T) {
	t.Parallel()
	s := overHTTP2(t, sse.Options{Backlog: 16 << 10, WriteTimeout: 500 * time.Millisecond})
	slow := s.openUnread("ana", "")
	fast := s.open("ana", "")
	fast.expect("hello")
	for i := range 100 {
		s.large("ana", fmt.Sprint(i), 3900)
	}
	s.notify("ana", "end")
	same(t, "fast", ids(t, fast.until(titled(t, "end"))), s.log("ana", 0))
	polltest.Until(t, "cut", func() bool { return s.hub.Open() == 1 && s.hub.PendingBytes() == 0 })
	var got []event
	if err := parse(slow.Body, func(e event) { got = append(got, e) }); err == nil {
		t.Error("it ended as if it were whole")
	}
	if len(got) > 40 {
		t.Errorf("%d events were sent to a reader that took none", len(got))
	}
	again := s.open("ana", got[len(got)-1].id)
	got = append(got, again.until(titled(t, "end"))...)
	same(t, "slow", ids(t, got), s.log("ana", 0))
}

// A reader over HTTP/2 gets everything that it missed after a reconnect, also if that is much.
func TestResumeOverHTTP2(t *testing.T) {
	t.Parallel()
	s := overHTTP2(t, sse.Options{Backlog: 16 << 10})
	s.fill("ana", 3000)
	r := s.open("ana", jobs.Position{Epoch: s.queue.Epoch()}.String())
	s.notify("ana", "end")
	same(t, "ana", ids(t, r.until(titled(t, "end"))), s.log("ana", 0))
}

// A parser that reads each block by itself finds the id of the hello event, and the reconnection time, in the event's block.
func TestHelloIsOneBlock(t *testing.T) {
	t.Parallel()
	body := bufio.NewReader(overHTTP2(t, sse.Options{}).openUnread("ana", "").Body)
	var fields []string
	for {
		line, err := body.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if line == "\n" {
			break
		}
		name, _, _ := strings.Cut(line, ":")
		fields = append(fields, name)
	}
	if want := []string{"id", "retry", "event", "data"}; !slices.Equal(fields, want) {
		t.Errorf("the first block has the fields %q, want %q", fields, want)
	}
}
