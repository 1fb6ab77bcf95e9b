package sse_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hark-jobs/hark/internal/polltest"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/notifier/sse"
	"github.com/oklog/ulid/v2"
)

// polling is a reader that polls, seen from its own end.
type polling struct {
	s *system
	sse.Poll
}

func (s *system) polling(user, after string) *polling {
	return &polling{s, sse.Poll{Subscriber: sse.Subscriber{User: user, LastEventID: after}, Wait: patience}}
}

// ask polls and ignores the answer.
func (p *polling) ask() sse.Answer {
	p.s.t.Helper()
	a, err := p.s.hub.Poll(p.s.t.Context(), p.Poll)
	if err != nil {
		p.s.t.Fatal(err)
	}
	return a
}

// next polls, and goes on from the answer.
func (p *polling) next() []event {
	p.s.t.Helper()
	return p.take(p.ask())
}

func (p *polling) take(a sse.Answer) []event {
	p.Stream, p.LastEventID = a.Stream, a.ID
	return eventsOf(a)
}

func eventsOf(a sse.Answer) (events []event) {
	for _, e := range a.Events {
		events = append(events, event{name: e.Event, id: e.ID, data: string(e.Data), retry: int(e.Retry)})
	}
	return events
}

// until polls until an event comes that ok accepts, and returns all up to the end of that answer.
func (p *polling) until(ok func(event) bool) (events []event) {
	p.s.t.Helper()
	for !slices.ContainsFunc(events, ok) {
		more := p.next()
		if len(more) == 0 {
			p.s.t.Fatalf("nothing came after %s", names(events))
		}
		events = append(events, more...)
	}
	return events
}

// open is a first poll that is answered.
func (p *polling) open() []event {
	p.s.t.Helper()
	events := p.next()
	if len(events) == 0 || events[0].name != "hello" {
		p.s.t.Fatalf("the first answer is %+v", events)
	}
	return events
}

func names(events []event) string {
	var all []string
	for _, e := range events {
		all = append(all, e.name)
	}
	return strings.Join(all, " ")
}

func named(name string) func(event) bool { return func(e event) bool { return e.name == name } }

func newPolled(t *testing.T, o sse.Options) *system { t.Parallel(); return newSystem(t, ways[0], o) }

// The first answer comes at once, with what was missed; the next ones wait.
func TestPollAnswersWhenThereIsSomething(t *testing.T) {
	s := newPolled(t, sse.Options{})
	start := s.notify("ana", "before")
	s.notify("ana", "missed")
	p := s.polling("ana", after(start))
	events := p.open()
	if len(events) == 1 { // reading the log took longer than the answer waits for that
		events = append(events, p.next()...)
	}
	if names(events) != "hello notification" || p.LastEventID != (jobs.Position{Epoch: start.Epoch, Own: start.Seq + 1, All: start.Seq}).String() {
		t.Errorf("%+v", events)
	}
	p.Wait = 0
	if events := p.next(); len(events) != 0 {
		t.Errorf("%+v", events)
	}
	p.Wait = patience
	answered := make(chan []event)
	go func() { answered <- p.next() }()
	s.notify("ana", "now")
	if events := <-answered; names(events) != "notification" {
		t.Errorf("%+v", events)
	}
}

// Events that are not in the log are not lost between two polls.
func TestPollKeepsWhatIsLiveBetweenPolls(t *testing.T) {
	s := newPolled(t, sse.Options{})
	p := s.polling("ana", "")
	p.open()
	job := &jobs.Job{ID: jobID, Kind: "k", User: "ana", State: jobs.Running, Run: 1}
	revision := s.put(job, 0)
	if err := s.hubConn.Publish(defaultNS.LiveInboxSubject("ana"), []byte(`{"unread":3}`)); err != nil {
		t.Fatal(err)
	}
	s.notify("ana", "n")
	var events []event
	for _, name := range []string{"job", "inbox", "notification"} { // they come over two connections
		if !slices.ContainsFunc(events, named(name)) {
			events = append(events, p.until(named(name))...)
		}
	}
	if !strings.Contains(fmt.Sprint(events), fmt.Sprintf(`"revision":%d`, revision)) {
		t.Errorf("%v", events)
	}
}

// An answer that was lost is repeated. No event is lost or comes twice, whether it moves the position or not.
func TestPollAfterALostAnswer(t *testing.T) {
	s := newPolled(t, sse.Options{})
	p := s.polling("ana", "")
	p.open()
	s.put(&jobs.Job{ID: jobID, Kind: "k", User: "ana", State: jobs.Running, Run: 1}, 0)
	if lost := eventsOf(p.ask()); names(lost) != "job" {
		t.Fatalf("%+v", lost)
	}
	s.notify("ana", "1")
	polltest.Until(t, "both are there", func() bool { return names(eventsOf(p.ask())) == "job notification" })
	for range 3 {
		if lost := eventsOf(p.ask()); names(lost) != "job notification" {
			t.Fatalf("%+v", lost)
		}
	}
	s.notify("ana", "2")
	got := p.until(titled(t, "2"))
	s.notify("ana", "3")
	got = append(got, p.until(titled(t, "3"))...)
	if names(got) != "job notification notification notification" {
		t.Errorf("%s", names(got))
	}
	same(t, "ana", ids(t, got), s.log("ana", 0))
}

// A stream that is not known here, or not at this position, is replaced by one that resumes from the log.
func TestPollResumesFromTheLog(t *testing.T) {
	s := newPolled(t, sse.Options{PollIdle: time.Hour})
	start := after(s.notify("ana", "first"))
	for i := range 5 {
		s.notify("ana", fmt.Sprint(i))
	}
	for name, stream := range map[string]func(known, old string) string{
		"another notifier's": func(string, string) string { return "XKCD.7" },
		"none":               func(string, string) string { return "" },
		"junk":               func(string, string) string { return "*" },
		"older":              func(_, old string) string { return old },
		"another position":   func(known, _ string) string { return known },
		"no number":          func(known, _ string) string { return known[:strings.Index(known, ".")] },
		"a later number":     func(known, _ string) string { return known + "0" },
	} {
		p := s.polling("ana", start)
		got := p.open()
		old := p.Stream
		if !slices.ContainsFunc(got, titled(t, "4")) {
			p.until(titled(t, "4"))
		}
		s.put(&jobs.Job{ID: ulid.Make().String(), Kind: "k", User: "ana", State: jobs.Running, Run: 1}, 0)
		p.until(named("job"))
		p.Wait = 0
		p.next() // now that has come, too
		again := s.polling("ana", start)
		again.Stream = stream(p.Stream, old)
		got = again.open()
		if !slices.ContainsFunc(got, titled(t, "4")) {
			got = append(got, again.until(titled(t, "4"))...)
		}
		if key, _, _ := strings.Cut(p.Stream, "."); strings.HasPrefix(again.Stream, key) {
			t.Errorf("%s: goes on with the old stream", name)
		}
		same(t, name, ids(t, got), s.log("ana", 0)[1:])
	}
	p := s.polling("ana", "abc-7")
	if got := p.open(); names(got) != "hello reset" {
		t.Errorf("%s", names(got))
	}
}

// A reader whose polls reach another notifier each time polls at the pace of events, and not without a pause.
func TestPollOfAnUnknownStreamWaits(t *testing.T) {
	s := newPolled(t, sse.Options{})
	p := s.polling("ana", after(s.notify("ana", "before")))
	p.Stream = "XKCD.7"
	answer := make(chan []event)
	go func() { answer <- p.next() }()
	polltest.Until(t, "it waits", func() bool { return s.hub.WaitingPolls() == 1 })
	s.notify("ana", "news")
	if got := <-answer; names(got) != "hello notification" {
		t.Errorf("%s", names(got))
	}
	p.Stream = "XKCD.8" // it waits for a few seconds, so that who fetches lists at hello does not wait for long
	if got := p.next(); names(got) != "hello" {
		t.Errorf("%s", names(got))
	}
}

// A user who names the stream of another user gets a stream of their own, and the other user keeps theirs.
func TestPollKeepsUsersApart(t *testing.T) {
	s := newPolled(t, sse.Options{})
	ana := s.polling("ana", "")
	ana.open()
	s.notify("ana", "hers")
	bob := s.polling("bob", ana.LastEventID)
	bob.Stream, bob.Wait = ana.Stream, 0
	if got := bob.open(); len(ids(t, got)) != 0 || !strings.Contains(got[0].data, `"bob"`) {
		t.Errorf("%+v", got)
	}
	if got := ana.next(); !titled(t, "hers")(got[0]) {
		t.Errorf("%+v", got)
	}
}

// Of two polls on one stream the newer one gets the events, and the older one ends at once.
func TestPollNewerWins(t *testing.T) {
	s := newPolled(t, sse.Options{})
	p := s.polling("ana", "")
	p.open()
	p.Wait = time.Hour
	older := make(chan sse.Answer, 1)
	go func() { older <- p.ask() }()
	polltest.Until(t, "it waits", func() bool { return s.hub.WaitingPolls() == 1 })
	newer := make(chan sse.Answer, 1)
	go func() { newer <- p.ask() }()
	select {
	case a := <-older:
		if len(a.Events) != 0 || a.ID != p.LastEventID || a.Stream != p.Stream {
			t.Errorf("%+v", a)
		}
	case <-time.After(patience):
		t.Fatal("the older one waits on")
	}
	s.notify("ana", "news")
	if got := p.take(<-newer); !titled(t, "news")(got[0]) {
		t.Errorf("%+v", got)
	}
}

// A poll whose client is gone takes nothing with it.
func TestPollIsGivenUp(t *testing.T) {
	s := newPolled(t, sse.Options{PollIdle: time.Hour})
	p := s.polling("ana", "")
	p.open()
	ctx, cancel := context.WithCancel(t.Context())
	given := make(chan error, 1)
	go func() { _, err := s.hub.Poll(ctx, p.Poll); given <- err }()
	polltest.Until(t, "it waits", func() bool { return s.hub.WaitingPolls() == 1 })
	cancel()
	if err := <-given; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	s.notify("ana", "news")
	if got := p.next(); !titled(t, "news")(got[0]) {
		t.Errorf("%+v", got)
	}
}

// A first poll whose client is gone leaves no stream behind.
func TestPollIsGivenUpAtFirst(t *testing.T) {
	t.Parallel()
	s := newSystem(t, ways[0], sse.Options{PollIdle: time.Hour}, func(s *system) { s.hub.DisableReplay() })
	start := after(s.notify("ana", "1"))
	s.notify("ana", "2")
	p := s.polling("ana", start)
	for answered := true; answered; { // what it waits for, the log, it waits for a second at most
		ctx, cancel := context.WithCancel(t.Context())
		given := make(chan error, 1)
		before := s.hub.PollSessions()
		go func() { _, err := s.hub.Poll(ctx, p.Poll); given <- err }()
		polltest.Until(t, "it waits", func() bool { return s.hub.PollSessions() > before })
		cancel()
		err := <-given
		answered = err == nil
		if !answered && s.hub.PollSessions() != before {
			t.Errorf("%d streams, and before it %d", s.hub.PollSessions(), before)
		}
	}
}

// A reader that is away costs at most its backlog, and no goroutine. When it polls again it gets the backlog, and then the rest
// from the log, in the same stream. The test counts goroutines, so it is not parallel.
func TestPollIsBounded(t *testing.T) {
	const readers, large = 30, 8
	s := newSystem(t, ways[0], sse.Options{Backlog: 16 << 10, TotalBacklog: 200 << 10})
	var all []*polling
	for i := range readers {
		p := s.polling(fmt.Sprint("user", i), "")
		p.open()
		p.Wait = 0
		p.next()
		p.Wait = patience
		all = append(all, p)
	}
	before := runtime.NumGoroutine()
	for i := range large {
		for j := range readers {
			s.large(fmt.Sprint("user", j), fmt.Sprint(i), 3900)
		}
	}
	polltest.Until(t, "all have as much as they may", func() bool { return s.hub.PausedReplays() == readers })
	if owed := s.hub.PendingBytes(); owed > 200<<10 || owed < 100<<10 {
		t.Errorf("%d bytes are owed", owed)
	}
	polltest.Until(t, "nobody waits for them", func() bool { return runtime.NumGoroutine() < before+readers/2 })
	for i, p := range all {
		got := p.until(titled(t, fmt.Sprint(large-1)))
		if strings.Contains(names(got), "hello") {
			t.Errorf("%s", names(got))
		}
		same(t, fmt.Sprint("user", i), ids(t, got), s.log(fmt.Sprint("user", i), 0))
		p.Wait = 0
		p.next()
	}
	if owed := s.hub.PendingBytes(); owed != 0 {
		t.Errorf("%d bytes are owed in the end", owed)
	}
}

// While absent readers use up the total backlog, a reader that polls still gets its events.
func TestPollWhileTotalBacklogIsFull(t *testing.T) {
	s := newPolled(t, sse.Options{TotalBacklog: 16 << 10, PollIdle: time.Hour})
	idle := s.polling("idle", "")
	idle.open()
	for i := range 3 {
		s.large("idle", fmt.Sprint(i), 3900)
	}
	polltest.Until(t, "it is owed", func() bool { return s.hub.PendingBytes() > 8000 && s.hub.PausedReplays() == 1 })
	p := s.polling("ana", "")
	p.open()
	for i := range 5 {
		s.large("ana", fmt.Sprint(i), 3900)
	}
	same(t, "ana", ids(t, p.until(titled(t, "4"))), s.log("ana", 0))
}

// A stream that is not polled any more ends, and keeps nothing.
func TestPollEndsWithItsReader(t *testing.T) {
	s := newPolled(t, sse.Options{PollIdle: time.Second})
	once, twice := s.polling("ana", ""), s.polling("ana", "")
	once.open()
	twice.open()
	twice.Wait = 0
	twice.next()
	s.notify("ana", "x")
	polltest.Until(t, "none is open", func() bool { return s.hub.Open() == 0 && s.hub.PendingBytes() == 0 && s.hub.PollSessions() == 0 })
	twice.Wait = patience
	if got := twice.until(named("notification")); names(got) != "hello notification" {
		t.Errorf("%s", names(got))
	}
}

// A polled stream counts towards the limit, and its last answer has the bye.
func TestPollHearsWhyItEnds(t *testing.T) {
	s := newPolled(t, sse.Options{MaxStreams: 2})
	p := s.polling("ana", "")
	p.open()
	r := s.open("ana", "")
	r.expect("hello")
	s.notify("ana", "last")
	r.expect("notification")
	other := s.polling("ana", "")
	other.open()
	if got := p.next(); names(got) != "notification bye" || byeCode(t, got[1]) != "too_many_streams" || got[1].retry != 60_000 {
		t.Errorf("%+v", got)
	}
	other.Wait = 0
	other.next() // both streams of ana are in use
	other.Wait = patience
	s.stop()
	if got := other.until(named("bye")); byeCode(t, got[len(got)-1]) != "shutting_down" || got[len(got)-1].retry < 100 {
		t.Errorf("%+v", got)
	}
	if _, err := s.hub.Poll(t.Context(), other.Poll); !errors.Is(err, sse.ErrClosed) {
		t.Error(err)
	}
}

// A poll that waits is answered when the stream ends.
func TestPollEndsAtOnce(t *testing.T) {
	s := newPolled(t, sse.Options{})
	p := s.polling("ana", "")
	p.open()
	got := make(chan []event)
	go func() { got <- p.next() }()
	polltest.Until(t, "it waits", func() bool { return s.hub.WaitingPolls() == 1 })
	s.hub.EndUser("ana", time.Now())
	if e := <-got; names(e) != "bye" || byeCode(t, e[0]) != "token_revoked" {
		t.Errorf("%+v", e)
	}
}

// A stream that is polled with a new token lives as long as that.
func TestPollWithANewToken(t *testing.T) {
	s := newPolled(t, sse.Options{})
	p := s.polling("ana", "")
	p.Expires = time.Now().Add(2 * time.Second)
	p.open()
	p.until(named("auth"))
	p.Expires = p.Expires.Add(time.Hour)
	p.TokenID = "new"
	p.Wait = 3 * time.Second
	if got := p.next(); len(got) != 0 {
		t.Errorf("%+v", got)
	}
	refused := errors.New("refused")
	p.TokenID, p.Check = "newer", func() error { return refused }
	if _, err := s.hub.Poll(t.Context(), p.Poll); !errors.Is(err, refused) {
		t.Error(err)
	}
	p.Check = nil
	s.hub.EndToken("newer")
	if got := p.next(); names(got) != "bye" {
		t.Errorf("%+v", got)
	}
}
