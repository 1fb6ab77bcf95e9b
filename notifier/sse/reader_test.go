package sse_test

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hark-jobs/hark/internal/polltest"
)

// event is one event as a reader gets it, with its last event id.
type event struct {
	name, id, data string
	retry          int // milliseconds, as known by then
}

const heartbeat = "heartbeat"

// parse reads an event stream as WHATWG HTML, section 9.2.6, says, and returns its events.
func parse(r io.Reader, each func(event)) error {
	in := bufio.NewReader(r)
	var e event
	var data []string
	for {
		line, err := readLine(in)
		if err != nil {
			return err // what is left incomplete is dropped
		}
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case line == "":
			if len(data) > 0 {
				if e.name == "" {
					e.name = "message"
				}
				e.data = strings.Join(data, "\n")
				each(e)
			}
			e.name, data = "", nil
		case field == "event":
			e.name = value
		case field == "data":
			data = append(data, value)
		case field == "id" && !strings.Contains(value, "\x00"):
			e.id = value
		case field == "retry":
			if n, err := strconv.Atoi(value); err == nil && n >= 0 {
				e.retry = n
			}
		}
	}
}

// readLine ends a line at CR, LF or both.
func readLine(in *bufio.Reader) (string, error) {
	var line []byte
	for {
		c, err := in.ReadByte()
		if err != nil {
			return "", err
		}
		switch c {
		case '\r':
			if next, err := in.Peek(1); err == nil && next[0] == '\n' {
				in.ReadByte()
			}
			return string(line), nil
		case '\n':
			return string(line), nil
		}
		line = append(line, c)
	}
}

// reader is one open stream, seen from its other end.
type reader struct {
	t      testing.TB
	events chan event // closed when the stream has ended
	close  func()
	last   string // event id
}

// open opens a stream; header holds names and values. It tries again while the answer is 503, as a client does: on a busy
// machine the end of the log may not be readable in time.
func (s *system) open(user, lastID string, header ...string) *reader {
	s.t.Helper()
	var r *reader
	polltest.Until(s.t, "the stream opens", func() bool {
		var status int
		r, status = s.tryOpen(user, lastID, header...)
		if r == nil && status != http.StatusServiceUnavailable {
			s.t.Fatalf("stream not opened: %d", status)
		}
		return r != nil
	})
	return r
}

func (s *system) tryOpen(user, lastID string, header ...string) (*reader, int) {
	ctx, cancel := context.WithCancel(s.t.Context())
	req, err := http.NewRequestWithContext(ctx, "GET", s.server.URL, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("User", user)
	if lastID != "" {
		req.Header.Set("Last-Event-ID", lastID)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := s.server.Client().Do(req)
	if err != nil {
		cancel()
		return nil, 0
	}
	if resp.StatusCode != 200 {
		resp.Body.Close()
		cancel()
		return nil, resp.StatusCode
	}
	if ct := resp.Header.Get("Content-Type"); ct != "text/event-stream" {
		s.t.Errorf("Content-Type %q", ct)
	}
	r := &reader{t: s.t, events: make(chan event, 1<<10), last: lastID}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer close(r.events)
		defer resp.Body.Close()
		_ = parse(resp.Body, func(e event) {
			select {
			case r.events <- e:
			case <-ctx.Done():
			}
		})
	}()
	r.close = func() { cancel(); <-ended }
	s.t.Cleanup(r.close)
	return r, 200
}

// next returns the next event that is no heartbeat; ok is false when the stream has ended.
func (r *reader) next() (e event, ok bool) {
	r.t.Helper()
	late := time.NewTimer(patience) // also if heartbeats keep coming
	defer late.Stop()
	for {
		select {
		case e, ok = <-r.events:
			if ok && e.name == heartbeat {
				continue
			}
			if ok {
				r.last = e.id
			}
			return e, ok
		case <-late.C:
			r.t.Fatal("no event came")
		}
	}
}

// expect returns the next event, which must have this name.
func (r *reader) expect(name string) event {
	r.t.Helper()
	e, ok := r.next()
	if !ok || e.name != name {
		r.t.Fatalf("expected %s, got %+v (open: %v)", name, e, ok)
	}
	return e
}

// ended waits for the stream's end and returns what came before it.
func (r *reader) ended() (events []event) {
	r.t.Helper()
	for {
		e, ok := r.next()
		if !ok {
			return events
		}
		events = append(events, e)
	}
}

// until reads up to an event that ok accepts and returns all before and with it.
func (r *reader) until(ok func(event) bool) (events []event) {
	r.t.Helper()
	for {
		e, open := r.next()
		if !open {
			r.t.Fatalf("the stream ended early, after %v", events)
		}
		events = append(events, e)
		if ok(e) {
			return events
		}
	}
}

// titled accepts the notification with a title.
func titled(t testing.TB, title string) func(event) bool {
	return func(e event) bool {
		return e.name == "notification" && decode[struct{ Title string }](t, e.data).Title == title
	}
}

// ids returns the ids of the notifications among events, as their data has them.
func ids(t testing.TB, events []event) (got []string) {
	t.Helper()
	for _, e := range events {
		if e.name == "notification" {
			got = append(got, decode[struct{ ID string }](t, e.data).ID)
		}
	}
	return got
}
