package notifier_test

import (
	"bytes"
	"encoding/json"
	"net/url"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/hark-jobs/hark/harktest"
	"github.com/hark-jobs/hark/internal/polltest"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/notifier/auth"
)

// polling is a client that polls for events.
type polling struct {
	s             *site
	headers       []string
	stream, after string
	wait          string
}

type polled struct {
	Stream, ID string
	Events     []struct {
		Event, ID string
		Retry     int
		Data      json.RawMessage
	}
}

func (p *polling) path() string {
	return "/v1/events?" + url.Values{"stream": {p.stream}, "after": {p.after}, "wait": {p.wait}}.Encode()
}

func (p *polling) ask() answer {
	p.s.t.Helper()
	return p.s.call("GET", p.path(), "", p.headers...)
}

// next polls, and continues from the response.
func (p *polling) next() (events []event) {
	p.s.t.Helper()
	var a polled
	p.ask().want(200).into(&a)
	p.stream, p.after = a.Stream, a.ID
	for _, e := range a.Events {
		events = append(events, event{e.Event, e.ID, string(e.Data)})
	}
	return events
}

// until polls until there is an event of this name.
func (p *polling) until(name string) event {
	p.s.t.Helper()
	for {
		for _, e := range p.next() {
			if e.name == name {
				return e
			}
		}
	}
}

func TestEvents(t *testing.T) {
	s := start(t)
	p := &polling{s: s, headers: s.as("ana")}
	first := p.next()
	if len(first) != 1 || first[0].name != "hello" || first[0].id != p.after || !strings.Contains(first[0].data, `"user":"ana"`) {
		t.Fatalf("%+v", first)
	}
	other, start := *p, p.after // its response may be lost
	job := s.enqueue("ana", nap)
	var last jobs.Job
	var ended event
	for !last.State.Terminal() || ended.name == "" {
		for _, e := range p.next() {
			switch e.name {
			case "job":
				var next jobs.Job
				if e.into(t, &next); next.ID != job.ID || next.Revision < last.Revision {
					t.Errorf("%+v after %+v", next, last)
				}
				last = next
			case "notification":
				ended = e
			default:
				t.Errorf("%+v", e)
			}
		}
	}
	var n jobs.Notification
	if ended.into(t, &n); n.ID == "" || n.JobID != job.ID || n.Type != "job.succeeded" || n.Status != jobs.Unread {
		t.Errorf("%+v", n)
	}
	s.call("POST", "/v1/notifications/"+n.ID+"/read", "", s.as("ana")...).want(200)
	if e := p.until("inbox"); !strings.Contains(e.data, n.ID) {
		t.Errorf("%+v", e)
	}
	// If the stream, or the position in it, is unknown, a new stream begins after the position.
	for _, stream := range []string{other.stream, "", "XKCD.3"} {
		again := polling{s: s, headers: p.headers, stream: stream, after: start}
		events := again.next()
		if len(events) == 1 { // reading the log took longer than the poll waits for it
			events = append(events, again.next()...)
		}
		if len(events) != 2 || events[0].name != "hello" || !strings.Contains(events[1].data, n.ID) {
			t.Errorf("%q: %+v", stream, events)
		}
	}
	// A stream resumes at the position of a poll.
	st, _ := s.listen("/v1/stream?last_event_id="+start, s.as("ana")...)
	if e := st.until("notification"); !strings.Contains(e.data, n.ID) {
		t.Errorf("%+v", e)
	}
	unknown := &polling{s: s, headers: p.headers, after: "abc-7"}
	if events := unknown.next(); len(events) != 2 || events[1].name != "reset" {
		t.Errorf("%+v", events)
	}
	p.until("hello") // since other has polled its stream
	// A notifier that stops sends bye, with the delay for reconnecting.
	p.wait = ""
	req, answered := s.request(t.Context(), "GET", p.path(), "", p.headers...), make(chan polled, 1)
	go func() {
		defer close(answered)
		res, err := s.http.Do(req)
		if err != nil {
			t.Error(err)
			return
		}
		defer res.Body.Close()
		var a polled
		if err := json.NewDecoder(res.Body).Decode(&a); err != nil {
			t.Errorf("%s %v", res.Status, err)
		}
		answered <- a
	}()
	// The stop must come after the notifier has the poll, since it closes idle connections.
	polltest.Until(t, "the poll waits", func() bool {
		stacks := make([]byte, 8<<20)
		return bytes.Contains(stacks[:runtime.Stack(stacks, true)], []byte("sse.(*Hub).Poll("))
	})
	s.Stop()
	a := <-answered
	if len(a.Events) == 0 {
		t.Fatalf("%+v", a)
	}
	if e := a.Events[len(a.Events)-1]; e.Event != "bye" || !strings.Contains(string(e.Data), "shutting_down") || e.Retry < 100 {
		t.Errorf("%+v", e)
	}
}

func TestEventsWait(t *testing.T) {
	s := start(t)
	p := &polling{s: s, headers: s.as("ana")}
	p.next()
	p.wait = "1"
	began := time.Now()
	if events := p.next(); len(events) != 0 || time.Since(began) < time.Second {
		t.Errorf("%+v after %v", events, time.Since(began))
	}
	for _, wait := range []string{"-1", "31", "x", "1.5", "9999999999999999"} {
		p.wait = wait
		if got := p.ask().problem(400, "wait_invalid"); got.Field != "wait" {
			t.Errorf("%s: %+v", wait, got)
		}
	}
	s.call("GET", "/v1/events", "{}", s.as("ana")...).problem(400, "body_unexpected")
	s.call("HEAD", "/v1/events", "", s.as("ana")...).want(405)
}

// A poll accepts the same credentials as a stream: header, cookie and ticket.
func TestEventsNeedToken(t *testing.T) {
	s := start(t, harktest.Secret(secret))
	s.call("GET", "/v1/events", "").problem(401, "token_missing")
	s.call("GET", "/v1/events?ticket=nope", "").problem(401, "ticket_invalid")
	cookie := &polling{s: s, headers: []string{"Cookie", "hark_token=" + s.Token("ana"), "Sec-Fetch-Site", "same-origin"}}
	if events := cookie.next(); len(events) != 1 {
		t.Errorf("%+v", events)
	}
	var out struct{ Ticket string }
	s.call("POST", "/v1/stream/ticket", "", s.as("ana")...).want(201).into(&out)
	var a polled
	s.call("GET", "/v1/events?ticket="+out.Ticket, "").want(200).into(&a)
	if len(a.Events) != 1 || !strings.Contains(string(a.Events[0].Data), `"ana"`) {
		t.Errorf("%+v", a)
	}
	s.call("GET", "/v1/events?ticket="+out.Ticket, "").problem(401, "ticket_invalid")

	// When a token expires, the waiting poll ends, and the next one is refused.
	issuer, err := auth.NewIssuer(auth.IssuerOptions{Secret: []byte(secret)})
	if err != nil {
		t.Fatal(err)
	}
	token, _, err := issuer.Issue("ana", nil, 6*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	short := &polling{s: s, headers: []string{"Authorization", "Bearer " + token}}
	short.until("auth")
	if e := short.until("bye"); !strings.Contains(e.data, "token_expired") {
		t.Errorf("%+v", e)
	}
	polltest.Until(t, "it is refused", func() bool { return short.ask().StatusCode == 401 })
	short.ask().problem(401, "token_expired")
}

// A poll of another user gets none of this user's events, whichever stream it names.
func TestEventsKeepUsersApart(t *testing.T) {
	s := start(t)
	ana := &polling{s: s, headers: s.as("ana")}
	ana.next()
	s.call("POST", "/v1/notifications", `{"user":"ana","type":"t","title":"Hers"}`, s.as("service", "notify")...).want(201)
	bob := &polling{s: s, headers: s.as("a*"), stream: ana.stream, after: ana.after, wait: "0"}
	if events := bob.next(); len(events) != 1 || events[0].name != "hello" {
		t.Errorf("%+v", events)
	}
	if e := ana.until("notification"); !strings.Contains(e.data, "Hers") {
		t.Errorf("%+v", e)
	}
}
