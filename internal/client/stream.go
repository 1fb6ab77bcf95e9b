package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"mime"
	"net/http"
	"time"

	"github.com/hark-jobs/hark/jobs"
)

// The types of events a hark stream has.
const (
	EventHello        = "hello"
	EventNotification = "notification"
	EventJob          = "job"
	EventInbox        = "inbox"
	EventAuth         = "auth"
	EventReset        = "reset"
	EventBye          = "bye"
)

const (
	firstDelay = time.Second
	maxDelay   = 30 * time.Second
	// maxSilence is how long a stream may be silent. The server says something every 15 s.
	maxSilence = 45 * time.Second
)

// Event is one event of the stream.
type Event struct {
	// ID is the id to resume after this event. It is that of an earlier one if this has none of its own.
	ID   string          `json:"id,omitempty"`
	Type string          `json:"event"`
	Data json.RawMessage `json:"data"`
}

// Job decodes the data of a job event.
func (e *Event) Job() (jobs.Job, error) { return decode[jobs.Job](e) }

// Notification decodes the data of a notification event.
func (e *Event) Notification() (jobs.Notification, error) { return decode[jobs.Notification](e) }

func decode[T any](e *Event) (T, error) {
	var v T
	if err := json.Unmarshal(e.Data, &v); err != nil {
		return v, fmt.Errorf("client: the data of a %s event: %w", e.Type, err)
	}
	return v, nil
}

// StreamOptions say how to listen.
type StreamOptions struct {
	// LastEventID is what to resume after; from now on if empty.
	LastEventID string
	// OnRetry, if set, hears why the stream was interrupted, and when it is tried again.
	OnRetry func(err error, in time.Duration)
}

// Stream yields the events of the user's stream until the consumer stops. When the connection ends or
// breaks it connects again, from the last event on: at the time that the server named, then ever later, up
// to half a minute. An error is the last thing it yields: what no second try mends (the token is not
// valid any more, say), or the context's.
func (c *Client) Stream(ctx context.Context, o StreamOptions) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		s := stream{client: c, lastEventID: o.LastEventID}
		for {
			err := s.connect(ctx, yield)
			switch {
			case errors.Is(err, errStopped):
				return
			case ctx.Err() != nil:
				yield(Event{}, ctx.Err())
				return
			case !Temporary(err):
				yield(Event{}, err)
				return
			}
			delay := s.delay(err)
			if o.OnRetry != nil {
				o.OnRetry(err, delay)
			}
			if err := sleep(ctx, delay); err != nil {
				yield(Event{}, err)
				return
			}
		}
	}
}

var (
	errStopped = errors.New("the consumer stopped")
	errSilent  = errors.New("the stream has been silent for too long")
	errEnded   = errors.New("the stream ended")
)

type stream struct {
	client      *Client
	lastEventID string
	retry       time.Duration // as the server set it
	failures    int           // in a row, without an event between
}

// connect yields the events of one connection. It never returns nil.
func (s *stream) connect(ctx context.Context, yield func(Event, error) bool) error {
	s.failures++
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watchdog := time.AfterFunc(maxSilence, func() { cancel(errSilent) })
	defer watchdog.Stop()

	res, err := s.open(ctx)
	if err != nil {
		return s.broken(ctx, err)
	}
	defer res.Body.Close()
	events := newEventReader(&watched{res.Body, watchdog}, s.lastEventID)
	for {
		event, err := events.next()
		s.lastEventID = events.LastEventID
		if events.Retry > 0 {
			s.retry = events.Retry
		}
		if errors.Is(err, errEventTooLong) {
			return fmt.Errorf("client: %w", err)
		}
		if errors.Is(err, io.EOF) {
			err = errEnded
		}
		if err != nil {
			return s.broken(ctx, &UnreachableError{URL: s.client.base.String(), Err: err})
		}
		s.failures = 0
		// What the consumer takes its time for is not the server's silence.
		watchdog.Stop()
		if !yield(event, nil) {
			return errStopped
		}
		watchdog.Reset(maxSilence)
	}
}

// broken says so if it was the watchdog who ended the connection.
func (s *stream) broken(ctx context.Context, err error) error {
	if errors.Is(context.Cause(ctx), errSilent) {
		return &UnreachableError{URL: s.client.base.String(), Err: errSilent}
	}
	return err
}

func (s *stream) open(ctx context.Context) (*http.Response, error) {
	header := http.Header{"Accept": {"text/event-stream"}, "Cache-Control": {"no-store"}}
	if s.lastEventID != "" {
		header.Set("Last-Event-ID", s.lastEventID)
	}
	untimed := *s.client.http
	untimed.Timeout = 0 // it would include the body
	streaming := *s.client
	streaming.http = &untimed
	res, err := streaming.send(ctx, call{method: http.MethodGet, path: "/v1/stream", header: header})
	if err != nil {
		return nil, err
	}
	media, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type"))
	if res.StatusCode != http.StatusOK || media != "text/event-stream" {
		res.Body.Close()
		return nil, fmt.Errorf("client: %s answered %s with %q, which is not an event stream", s.client.base, res.Status, media)
	}
	return res, nil
}

// delay is what the server asked for, then, if it fails again, ever more.
func (s *stream) delay(err error) time.Duration {
	var problem *Problem
	if errors.As(err, &problem) && problem.RetryAfter > 0 {
		return problem.RetryAfter
	}
	if s.failures == 0 && s.retry > 0 {
		return s.retry // the server spreads its clients itself
	}
	return max(backoff(firstDelay, max(s.failures, 1)), s.retry)
}

// watched tells the watchdog of every byte.
type watched struct {
	r        io.Reader
	watchdog *time.Timer
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.r.Read(p)
	if n > 0 {
		w.watchdog.Reset(maxSilence)
	}
	return n, err
}

// backoff returns first after one failure and doubles with each further one, up to maxDelay, give or take
// half, so that clients of one server do not come back together.
func backoff(first time.Duration, failures int) time.Duration {
	d := min(first<<min(failures-1, 10), maxDelay)
	return d/2 + rand.N(d)
}

// sleep waits, or returns the context's error.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
