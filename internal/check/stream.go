package check

import (
	"bufio"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"time"
)

const (
	fixBuffers = "Disable buffering for /v1/stream: nginx proxy_buffering off, and no proxy_ignore_headers X-Accel-Buffering."
	fixGzip    = "Do not compress /v1/stream: an event must not wait for a compressor; pass on Cache-Control and Content-Encoding unchanged."
	fixCuts    = "Allow at least a minute of silence on /v1/stream (nginx: proxy_read_timeout 60s), and any duration."
	fixLimits  = "Allow more connections per client: in the proxy (nginx: limit_conn), or with --max-connections-per-address."
	fixLast    = "Make the proxy pass on the header Last-Event-ID: without it EventSource cannot resume, and loses events."
)

// opened is an open stream. events has the names of its events, and is closed at its end.
type opened struct {
	*http.Response
	events   chan string
	lastByte atomic.Int64 // when the last byte arrived, Unix nanoseconds
	stop     context.CancelFunc
}

// open opens a stream. The caller must call stop.
func (c *checker) open(outer context.Context, transport http.RoundTripper, header ...string) (*opened, error) {
	ctx, stop := context.WithCancel(outer)
	head := time.AfterFunc(2*c.First, stop)
	res, err := c.get(ctx, transport, "/v1/stream", header...)
	if !head.Stop() && err == nil {
		res.Body.Close()
	}
	if ctx.Err() != nil && outer.Err() == nil {
		err = errors.New("there is no response")
	}
	if err != nil {
		stop()
		return nil, err
	}
	s := &opened{Response: res, events: make(chan string, 64), stop: stop}
	s.lastByte.Store(time.Now().UnixNano())
	go s.read(ctx)
	return s, nil
}

func (s *opened) read(ctx context.Context) {
	defer close(s.events)
	defer s.Body.Close()
	var body io.Reader = &noting{s.Body, &s.lastByte}
	if s.Header.Get("Content-Encoding") == "gzip" {
		unzipped, err := gzip.NewReader(body)
		if err != nil {
			return
		}
		body = unzipped
	}
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, 4<<20)
	for lines.Scan() {
		if name, ok := strings.CutPrefix(lines.Text(), "event: "); ok {
			select {
			case s.events <- name:
			case <-ctx.Done():
				return
			}
		}
	}
}

// noting records the time of each read.
type noting struct {
	r  io.Reader
	at *atomic.Int64
}

func (n *noting) Read(p []byte) (int, error) {
	k, err := n.r.Read(p)
	if k > 0 {
		n.at.Store(time.Now().UnixNano())
	}
	return k, err
}

// next returns the name of the next event; "" on a timeout, or if the stream has ended.
func (s *opened) next(ctx context.Context, within time.Duration) (name string, open bool) {
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case name, open = <-s.events:
		return name, open
	case <-timer.C:
		return "", true
	case <-ctx.Done():
		return "", false
	}
}

// stream checks whether the events of a stream arrive without delay, and whether the stream lasts.
func (c *checker) stream(ctx context.Context) bool {
	// hark responds to an invalid id with reset, which shows that it has received the header.
	s, err := c.open(ctx, c.Transport, "Accept-Encoding", "gzip", "Last-Event-ID", "check")
	if err != nil {
		c.say(Bad, "buffers", fixBuffers, "A stream has not begun after %s (%v): a proxy buffers it.", seconds(2*c.First), err)
		return false
	}
	defer s.stop()
	if kind, _, _ := strings.Cut(s.Header.Get("Content-Type"), ";"); s.StatusCode != http.StatusOK || kind != "text/event-stream" {
		c.say(Bad, "no_stream", "Make the proxy pass on GET /v1/stream and its response unchanged.", "GET /v1/stream gets the status %s and the type %q.", s.Status, kind)
		return false
	}
	if encoding := s.Header.Get("Content-Encoding"); encoding != "" && encoding != "identity" {
		c.say(Bad, "compresses", fixGzip, "A proxy compresses the stream (%s).", encoding)
	}
	switch name, open := s.next(ctx, c.First); {
	case name == "hello":
		c.say(OK, "at_once", "", "Events arrive without delay.")
	case !open:
		c.say(Bad, "cuts", fixCuts, "The stream ends before its first event.")
		return true
	default:
		c.say(Bad, "buffers", fixBuffers, "The stream is open, but its first event has not arrived after %v: a proxy buffers events.", c.First)
		return false
	}
	if name, _ := s.next(ctx, c.First); name != "reset" {
		c.say(Bad, "strips_last_event_id", fixLast, "The header Last-Event-ID does not reach hark.")
	}
	c.watch(ctx, s)
	return ctx.Err() == nil
}

// watch watches an idle stream for the time of the options.
func (c *checker) watch(ctx context.Context, s *opened) {
	const silent = 40 * time.Second // hark has a heartbeat every 15 s
	began := time.Now()
	for left := c.Watch; left > 0; left = c.Watch - time.Since(began) {
		name, open := s.next(ctx, min(left, time.Second))
		if ctx.Err() != nil {
			return
		}
		quiet := time.Since(time.Unix(0, s.lastByte.Load()))
		switch {
		case name == "bye":
			c.say(Note, "ended", "Try again when hark is running.", "hark itself ended the stream after %s.", seconds(time.Since(began)))
			return
		case !open:
			c.say(Bad, "cuts", fixCuts, "The stream was cut after %s, %s after the last byte. Clients resume it, but with a new connection each time.",
				seconds(time.Since(began)), seconds(quiet))
			return
		case quiet > silent:
			c.say(Bad, "buffers", fixBuffers, "The stream is open, but no heartbeat has arrived for %s: a proxy buffers events.", seconds(quiet))
			return
		}
	}
	c.say(OK, "lasts", "", "A stream without events lasts for %s and longer.", seconds(c.Watch))
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.0f s", d.Seconds()) }

// manyStreams are two more than a browser has connections to one host over HTTP/1.1.
const manyStreams = 8

// many checks whether one address may have several streams, such as that of an office with many browsers. A limit shows each
// time; a connection that breaks for another reason does not.
func (c *checker) many(ctx context.Context) bool {
	n := 0
	for tries := 0; n < manyStreams && tries < 3; tries++ {
		n = max(n, c.openMany(ctx))
	}
	if n < manyStreams {
		c.say(Bad, "limits_connections", fixLimits, "Of %d concurrent streams from one address only %d were opened.", manyStreams, n)
	} else {
		c.say(OK, "many", "", "%d concurrent streams from one address are open.", manyStreams)
	}
	return true
}

// openMany returns how many of [manyStreams] concurrent streams were opened.
func (c *checker) openMany(ctx context.Context) (n int) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	greeted := make(chan bool, manyStreams)
	for range manyStreams {
		go func() {
			s, err := c.open(ctx, c.http1)
			if err != nil {
				greeted <- false
				return
			}
			name, _ := s.next(ctx, c.First)
			greeted <- name == "hello" && s.StatusCode == http.StatusOK
		}()
	}
	for range manyStreams {
		if <-greeted {
			n++
		}
	}
	return n
}
