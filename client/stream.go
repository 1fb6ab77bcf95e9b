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
	"net/url"
	"time"

	"github.com/hark-jobs/hark/jobs"
)

// The types of events that [Client.Stream] yields.
const (
	EventHello        = "hello"
	EventNotification = "notification"
	EventJob          = "job"
	EventInbox        = "inbox"
	EventAuth         = "auth"
	EventReset        = "reset"
	EventBye          = "bye"
	EventLive         = "live"
	EventMissed       = "missed"

	eventHeartbeat = "heartbeat" // only resets the watchdog
)

const (
	firstDelay = time.Second
	maxDelay   = 30 * time.Second
	// maxSilence is how long a stream may be silent. The server has a heartbeat every 15 s.
	maxSilence = 40 * time.Second
)

// Event is one event of the stream.
type Event struct {
	// ID is the position after this event: that of an earlier one if this event has none of its own. It is not the id of a
	// notification, and only good for LastEventID and AsOf.
	ID   string          `json:"id,omitempty"`
	Type string          `json:"event"`
	Data json.RawMessage `json:"data"`
}

// Job decodes the data of a job event.
func (e *Event) Job() (jobs.Job, error) { return decode[jobs.Job](e) }

// Notification decodes the data of a notification event.
func (e *Event) Notification() (jobs.Notification, error) { return decode[jobs.Notification](e) }

// Live decodes the data of a live event.
func (e *Event) Live() (jobs.LiveEvent, error) { return decode[jobs.LiveEvent](e) }

// Missed returns the topics of a missed event: some of their live events may not have arrived.
func (e *Event) Missed() (topics []string, err error) {
	data, err := decode[struct {
		Topics []string `json:"topics"`
	}](e)
	return data.Topics, err
}

func decode[T any](e *Event) (T, error) {
	var v T
	if err := json.Unmarshal(e.Data, &v); err != nil {
		return v, fmt.Errorf("client: the data of a %s event: %w", e.Type, err)
	}
	return v, nil
}

// StreamOptions are the options of [Client.Stream].
type StreamOptions struct {
	// LastEventID is the ID of the event to resume after, as it is. Defaults to none: the stream begins now.
	LastEventID string
	// Topics are the topics of live events to listen to, at most 100: [jobs.TopicUser], [jobs.TopicAll], and those that the
	// server permits. After an [EventMissed] some of their events may be missing: look again at what they are about. Defaults
	// to none.
	Topics []string
	// OnRetry, if set, is called before a reconnect, with the reason of the interruption and the delay.
	OnRetry func(err error, in time.Duration)
}

// Stream yields the events of the user's stream, and blocks for the next one until the consumer stops or ctx ends. When the
// connection breaks it reconnects and resumes after the last event: first after the delay that the server has set, then with
// backoff, up to 30 s on average. After an [EventReset] events may be missing: list the jobs and notifications again.
//
// After an error Stream ends. The error is not [Temporary], such as a token that has expired, or is that of ctx.
func (c *Client) Stream(ctx context.Context, o StreamOptions) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		s := stream{client: c, lastEventID: o.LastEventID, topics: o.Topics}
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
	topics      []string
	retry       time.Duration // set by the server
	failures    int           // since the last event
}

// connect yields the events of one connection. Its error is never nil.
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
		if event.Type == eventHeartbeat {
			continue
		}
		// The time of the consumer does not count as silence of the server.
		watchdog.Stop()
		if !yield(event, nil) {
			return errStopped
		}
		watchdog.Reset(maxSilence)
	}
}

// broken returns errSilent in place of err if the watchdog ended the connection.
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
	untimed.Timeout = 0 // Timeout includes reading the body
	streaming := *s.client
	streaming.http = &untimed
	res, err := streaming.send(ctx, call{method: http.MethodGet, path: "/v1/stream", query: url.Values{"topic": s.topics}, header: header})
	if err != nil {
		return nil, err
	}
	media, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type"))
	if res.StatusCode != http.StatusOK || media != "text/event-stream" {
		res.Body.Close()
		return nil, fmt.Errorf("client: the response of %s has the status %s and the type %q, which is not an event stream", s.client.base, res.Status, media)
	}
	return res, nil
}

// delay returns the delay before a reconnect: that of the server, or if connecting has failed, a backoff.
func (s *stream) delay(err error) time.Duration {
	var problem *Problem
	if errors.As(err, &problem) && problem.RetryAfter > 0 {
		return problem.RetryAfter
	}
	if s.failures == 0 && s.retry > 0 {
		return s.retry // the server spreads the reconnects of its clients
	}
	return max(backoff(firstDelay, max(s.failures, 1)), s.retry)
}

// watched resets the watchdog with every byte.
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

// backoff returns the delay after a number of failures: first, doubled with each failure after that, up to maxDelay. Jitter of half
// of it keeps the clients of a server from reconnecting at the same time.
func backoff(first time.Duration, failures int) time.Duration {
	d := min(first<<min(failures-1, 10), maxDelay)
	return d/2 + rand.N(d)
}

// sleep blocks for d. If ctx ends first, it returns the error of ctx.
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
