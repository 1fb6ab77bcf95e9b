package harktest

import (
	"context"
	"encoding/json"
	"iter"
	"net/http"
	"slices"
	"time"

	"github.com/hark-jobs/hark/client"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/queue"
)

// limit is how long a helper waits before it fails the test. Machines that run tests can be slow.
const limit = time.Minute

// Client returns a client that calls hark over HTTP as user, with these scopes.
func (h *Hark) Client(user string, scopes ...string) *client.Client {
	h.t.Helper()
	transport := http.DefaultTransport.(*http.Transport).Clone()
	h.t.Cleanup(transport.CloseIdleConnections)
	c, err := client.New(client.Options{URL: h.URL, Token: h.Token(user, scopes...), HTTPClient: &http.Client{Transport: transport}})
	if err != nil {
		h.t.Fatalf("harktest: %v", err)
	}
	return c
}

// Run enqueues a job for user, waits until it has ended, and returns it as it is then. It fails the test if the job is
// refused, or has not ended after a minute; how it has ended is for the test to check.
func Run[P any](h *Hark, kind jobs.Definition[P], user string, params P, options ...queue.Option) jobs.Job {
	h.t.Helper()
	job, err := queue.Enqueue(h.t.Context(), h.Queue, kind, user, params, options...)
	if err != nil {
		h.t.Fatalf("harktest: enqueue: %v", err)
	}
	return h.Wait(job)
}

// Wait waits until the job has ended, and returns it as it is then. It fails the test after a minute.
func (h *Hark) Wait(job jobs.Job) jobs.Job {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), limit)
	defer cancel()
	for changed, err := range h.Queue.Follow(ctx, job.User, job.ID) {
		if err != nil {
			h.t.Fatalf("harktest: job %s is %s, and not at its end: %v", job.ID, job.State, err)
		}
		job = changed
	}
	return job
}

// Notifications returns the newest 100 notifications in the inbox of user, newest first. All that were sent before the call
// are among them.
func (h *Hark) Notifications(user string) []jobs.Notification {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), limit)
	defer cancel()
	stream := h.Stream(user)
	stream.Close()
	page, err := h.Client(user).NotificationPage(ctx, client.NotificationsQuery{Limit: 100, AsOf: stream.ID})
	if err != nil {
		h.t.Fatalf("harktest: notifications of %s: %v", user, err)
	}
	return page.Notifications
}

// Stream is an open event stream of a user. It ends with the test. It is for one goroutine.
type Stream struct {
	// ID is the end of the log when the stream was opened.
	ID string

	h    *Hark
	user string
	next func() (client.Event, error, bool)
	stop func()
	end  context.CancelFunc
}

// Stream opens the event stream of user, as a page does, and returns when it has said hello. The events are those from then
// on.
func (h *Hark) Stream(user string) *Stream {
	h.t.Helper()
	ctx, cancel := context.WithCancel(h.t.Context())
	s := &Stream{h: h, user: user, end: cancel}
	s.next, s.stop = iter.Pull2(h.Client(user).Stream(ctx, client.StreamOptions{}))
	h.t.Cleanup(s.Close)
	var hello struct {
		ID string `json:"id"`
	}
	if err := json.Unmarshal(s.Next(client.EventHello).Data, &hello); err != nil {
		h.t.Fatalf("harktest: hello: %v", err)
	}
	s.ID = hello.ID
	return s
}

// Next blocks until the next event of one of these types, or of any type if there are none, and returns it. It skips the
// events before it. It fails the test after a minute.
func (s *Stream) Next(types ...string) client.Event {
	s.h.t.Helper()
	defer time.AfterFunc(limit, s.end).Stop()
	for {
		event, err, ok := s.next()
		if !ok || err != nil {
			s.h.t.Fatalf("harktest: the stream of %s ended before an event %v: %v", s.user, types, err)
		}
		if len(types) == 0 {
			return event
		}
		if slices.Contains(types, event.Type) {
			return event
		}
	}
}

// Notification blocks until the next notification, and returns it. It fails the test after a minute.
func (s *Stream) Notification() jobs.Notification {
	s.h.t.Helper()
	event := s.Next(client.EventNotification)
	n, err := event.Notification()
	if err != nil {
		s.h.t.Fatalf("harktest: %v", err)
	}
	return n
}

// Close closes the stream before the test ends. It may be called more than once.
func (s *Stream) Close() {
	s.end()
	s.stop()
}
