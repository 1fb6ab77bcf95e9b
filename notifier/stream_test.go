package notifier_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hark-jobs/hark/internal/natstest"
	"github.com/hark-jobs/hark/internal/polltest"
	"github.com/hark-jobs/hark/jobs"
)

// stream is an open event stream.
type stream struct {
	t     testing.TB
	body  io.ReadCloser
	lines *bufio.Scanner
}

type event struct{ name, id, data string }

// listen opens a stream and reads its first event, which must be hello.
func (s *site) listen(path string, headers ...string) (*stream, event) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	res := s.open(ctx, "GET", path, "", headers...)
	s.t.Cleanup(func() { res.Body.Close(); cancel() })
	if res.StatusCode != http.StatusOK || res.Header.Get("Content-Type") != "text/event-stream" || res.Header.Get("Cache-Control") != "no-store, no-transform" {
		body, _ := io.ReadAll(res.Body)
		s.t.Fatalf("%s %v %s", res.Status, res.Header, body)
	}
	st := &stream{s.t, res.Body, bufio.NewScanner(res.Body)}
	hello := st.next()
	if hello.name != "hello" {
		s.t.Fatalf("first comes %+v", hello)
	}
	return st, hello
}

// next returns the next event, or the zero event at the end of the stream.
func (st *stream) next() (e event) {
	for st.lines.Scan() {
		name, value, _ := strings.Cut(st.lines.Text(), ": ")
		switch name {
		case "event":
			e.name = value
		case "id":
			e.id = value
		case "data":
			e.data = value
		case "":
			if e.name != "" {
				return e
			}
		}
	}
	return event{}
}

// until returns the next event of this name.
func (st *stream) until(name string) event {
	st.t.Helper()
	for {
		e := st.next()
		if e.name == name {
			return e
		}
		if e.name == "" {
			st.t.Fatalf("the stream ended before a %s: %v", name, st.lines.Err())
		}
	}
}

func (e event) into(t testing.TB, v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(e.data), v); err != nil {
		t.Fatalf("%+v: %v", e, err)
	}
}

func TestStream(t *testing.T) {
	s := start(t)
	st, hello := s.listen("/v1/stream", s.as("ana")...)
	var h struct {
		User, ID   string
		ServerTime time.Time `json:"server_time"`
	}
	if hello.into(t, &h); h.User != "ana" || h.ID != hello.id || h.ServerTime.IsZero() {
		t.Errorf("%+v", h)
	}
	job := s.enqueue("ana", nap)
	var last jobs.Job
	for !last.State.Terminal() {
		var next jobs.Job
		if st.until("job").into(t, &next); next.ID != job.ID || next.Revision < last.Revision {
			t.Errorf("%+v after %+v", next, last)
		}
		last = next
	}
	// The job event of the end and the notification may come in either order, so the notification is read from another
	// stream.
	resumed, _ := s.listen("/v1/stream", append(s.as("ana"), "Last-Event-ID", hello.id)...)
	ended := resumed.until("notification")
	var n jobs.Notification
	if ended.into(t, &n); n.ID == "" || n.JobID != job.ID || n.Type != "job.succeeded" || n.Status != jobs.Unread || !strings.HasPrefix(n.Title, "Nap") {
		t.Errorf("%+v", n)
	}
	s.call("POST", "/v1/notifications/"+n.ID+"/read", "", s.as("ana")...).want(200)
	var change struct {
		Unread int
		Read   []string
	}
	if st.until("inbox").into(t, &change); change.Unread != 0 || len(change.Read) != 1 || change.Read[0] != n.ID {
		t.Errorf("%+v", change)
	}
	for path, want := range map[string]string{
		"/v1/stream?last_event_id=" + hello.id: n.ID, // the same as the header
		"/v1/stream?last_event_id=junk":        "",
		"/v1/stream?last_event_id=" + n.ID:     "", // the id of a notification
		"/v1/stream?last_event_id=abc-7":       "",
	} {
		again, _ := s.listen(path, s.as("ana")...)
		if e := again.next(); want != "" && (e.name != "notification" || !strings.Contains(e.data, want)) || want == "" && e.name != "reset" {
			t.Errorf("%s: %+v", path, e)
		}
	}
	// A notifier that stops sends bye.
	var stopping sync.WaitGroup
	defer stopping.Wait() // the end of the test stops hark, too, if it has not stopped
	stopping.Go(s.Stop)
	var bye struct{ Code string }
	if st.until("bye").into(t, &bye); bye.Code != "shutting_down" {
		t.Errorf("%+v", bye)
	}
}

func TestStreamNeedsToken(t *testing.T) {
	s := start(t)
	s.call("GET", "/v1/stream", "").problem(401, "token_missing")
	s.call("GET", "/v1/stream?ticket=nope", "").problem(401, "ticket_invalid")
	s.call("GET", "/v1/stream?ticket=*", "", s.as("ana")...).problem(401, "ticket_invalid")
	s.call("HEAD", "/v1/stream", "", s.as("ana")...).want(405)
}

func TestTicket(t *testing.T) {
	s := start(t)
	issue := func(headers ...string) string {
		t.Helper()
		var out struct {
			Ticket    string
			ExpiresAt time.Time `json:"expires_at"`
		}
		s.call("POST", "/v1/stream/ticket", "", headers...).want(201).into(&out)
		if left := time.Until(out.ExpiresAt); left < 20*time.Second || left > 31*time.Second {
			t.Errorf("valid for %v", left)
		}
		return out.Ticket
	}
	ticket := issue(s.as("ana")...)
	_, hello := s.listen("/v1/stream?ticket=" + ticket)
	if !strings.Contains(hello.data, `"user":"ana"`) {
		t.Errorf("%+v", hello)
	}
	s.call("GET", "/v1/stream?ticket="+ticket, "").problem(401, "ticket_invalid")
	// A cookie of another user does not matter, and a ticket that JetStream has expired is gone.
	ticket = issue(s.as("ana")...)
	bucket, err := s.Queue.Store().JetStream().KeyValue(natstest.Context(t), defaultNS.TicketsBucket())
	if err != nil {
		t.Fatal(err)
	}
	if status, err := bucket.Status(natstest.Context(t)); err != nil || status.TTL() != 30*time.Second {
		t.Error(status, err)
	}
	if err := bucket.Purge(natstest.Context(t), ticket); err != nil {
		t.Fatal(err)
	}
	s.call("GET", "/v1/stream?ticket="+ticket, "", s.as("bob")...).problem(401, "ticket_invalid")
	s.call("POST", "/v1/stream/ticket", "").problem(401, "token_missing")
}

// Any text can be a user name, and no user gets the events of another.
func TestUsersApart(t *testing.T) {
	s := start(t)
	users := []string{"a@b.c", "aa@b.c", "a*", "*", ">", "a.>", "a b", "a/b", "A", "a", "a=2E", "a.", "🦊", "_al", "_all_", "user\n", strings.Repeat("ü", 300)}
	streams := make(map[string]*stream)
	for _, user := range users {
		streams[user], _ = s.listen("/v1/stream", s.as(user)...)
	}
	admin := s.as("service", "notify")
	for _, user := range users {
		body, err := json.Marshal(map[string]any{"user": user, "type": "test", "title": "For " + user[:min(len(user), 100)]})
		if err != nil {
			t.Fatal(err)
		}
		s.call("POST", "/v1/notifications", string(body), admin...).want(201)
		s.enqueue(user, nap)
	}
	// A broadcast marks the end of each stream's events.
	var end jobs.Notification
	s.call("POST", "/v1/notifications", `{"everyone":true,"type":"end","title":"End"}`, admin...).want(201).into(&end)
	for _, user := range users {
		for own, done := 0, false; !done; {
			switch e := streams[user].next(); e.name {
			case "notification":
				var n jobs.Notification
				e.into(t, &n)
				if n.Type == "test" {
					own++
				}
				if n.Type == "test" && n.Title != "For "+user[:min(len(user), 100)] {
					t.Errorf("%q received %q", user, n.Title)
				}
				done = n.ID == end.ID
				if done && own != 1 {
					t.Errorf("%q was notified %d times", user, own)
				}
			case "job":
				var job jobs.Job
				if e.into(t, &job); job.User != user {
					t.Errorf("%q received a job of %q", user, job.User)
				}
			case "heartbeat": // on a slow machine
			default:
				t.Fatalf("%q: %+v", user, e)
			}
		}
		var list struct{ Jobs []jobs.Job }
		if s.call("GET", "/v1/jobs", "", s.as(user)...).into(&list); len(list.Jobs) != 1 || list.Jobs[0].User != user {
			t.Errorf("%q: %+v", user, list.Jobs)
		}
		polltest.Until(t, "the inbox has it", func() bool {
			var inbox inboxPage
			s.call("GET", "/v1/notifications", "", s.as(user)...).into(&inbox)
			n := 0
			for _, note := range inbox.Notifications {
				if note.Type == "test" {
					n++
				}
			}
			return n == 1 && inbox.Notifications[len(inbox.Notifications)-1].Type == "test"
		})
	}
}
