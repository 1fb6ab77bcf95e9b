package sse_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hark-jobs/hark/internal/polltest"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/notifier/sse"
)

// turns is a reader whose polls reach one notifier after the other.
type turns struct {
	*polling
	hubs []*system
	n    int
}

func (p *turns) turn() {
	p.polling.s = p.hubs[p.n%len(p.hubs)]
	p.n++
}

func (p *turns) next() []event { p.turn(); return p.polling.next() }

// got polls until ok accepts an event.
func (p *turns) got(ok func(event) bool) (events []event) {
	p.polling.s.t.Helper()
	polltest.Nil(p.polling.s.t, "the event", func() error {
		events = append(events, p.next()...)
		if !slices.ContainsFunc(events, ok) {
			return fmt.Errorf("got %s", names(events))
		}
		return nil
	})
	return events
}

func newTurns(t *testing.T, o sse.Options) (one, two *system, p *turns) {
	one = newPolled(t, o)
	two = one.another(o)
	p = &turns{polling: one.polling("ana", ""), hubs: []*system{one, two}}
	p.Wait = 5 * time.Second
	return one, two, p
}

// A reader whose polls reach two notifiers in turn has one stream with all events, and one hello.
func TestPollsReachTwoNotifiers(t *testing.T) {
	one, two, p := newTurns(t, sse.Options{})
	if got := p.next(); names(got) != "hello" {
		t.Fatalf("%s", names(got))
	}
	var all []event
	revision := uint64(0)
	for i := range 6 {
		one.notify("ana", fmt.Sprint(i))
		all = append(all, p.got(titled(t, fmt.Sprint(i)))...)
		revision = one.put(&jobs.Job{ID: jobID, Kind: "k", User: "ana", State: jobs.Running, Run: 1}, revision)
		all = append(all, p.got(named("job"))...)
		if err := one.hubConn.Publish(defaultNS.LiveInboxSubject("ana"), fmt.Appendf(nil, `{"unread":%d}`, i)); err != nil {
			t.Fatal(err)
		}
		all = append(all, p.got(named("inbox"))...)
		// An answer that is lost is repeated by either notifier.
		one.notify("ana", fmt.Sprint("lost ", i))
		lost := func() string { p.turn(); return names(eventsOf(p.ask())) }
		polltest.Until(t, "there is something to lose", func() bool { return lost() == "notification" })
		lost()
		all = append(all, p.got(titled(t, fmt.Sprint("lost ", i)))...)
	}
	if slices.ContainsFunc(all, named("hello")) {
		t.Errorf("%s", names(all))
	}
	same(t, "ana", ids(t, all), one.log("ana", 0))
	if one.hub.Open() != 1 || two.hub.Open() != 0 {
		t.Errorf("%d and %d streams", one.hub.Open(), two.hub.Open())
	}
	// A poll that waits at the second notifier is answered at once.
	answer := make(chan []event)
	p.n = 1
	go func() { answer <- p.next() }()
	polltest.Until(t, "it waits", func() bool { return one.hub.WaitingPolls() == 1 })
	one.notify("ana", "live")
	if got := <-answer; names(got) != "notification" {
		t.Errorf("%s", names(got))
	}
	p.n, p.Wait = 1, 0
	if got := p.next(); len(got) != 0 {
		t.Errorf("%s", names(got))
	}
}

// A forwarded poll waits as long as another one.
func TestPollWaitsElsewhere(t *testing.T) {
	_, _, p := newTurns(t, sse.Options{PollIdle: time.Minute})
	p.next()
	p.Wait = 7 * time.Second // longer than forwardWait
	began := time.Now()
	if got := p.next(); len(got) != 0 || time.Since(began) < p.Wait {
		t.Errorf("%s after %v", names(got), time.Since(began))
	}
}

// A notifier that shuts down ends its streams with a bye. A notifier that is gone or unreachable is replaced by the one that
// the poll reaches, which resumes from the log.
func TestPollWhenTheOtherNotifierIsGone(t *testing.T) {
	for name, end := range map[string]func(*system){
		"stopped": func(s *system) {
			s.stop()
			polltest.Until(s.t, "it has stopped", func() bool { return s.hub.Open() == 0 })
		},
		"cut off": func(s *system) { s.proxy.cut() },
	} {
		t.Run(name, func(t *testing.T) {
			one, two, p := newTurns(t, sse.Options{PollIdle: time.Hour})
			p.next()
			one.notify("ana", "1")
			p.got(titled(t, "1"))
			end(one)
			two.notify("ana", "2")
			p.n, p.hubs = 0, []*system{two}
			got := p.got(titled(t, "2"))
			if names(got) != "hello notification" {
				t.Errorf("%s", names(got))
			}
			if two.hub.Open() != 1 {
				t.Errorf("%d streams", two.hub.Open())
			}
			two.notify("ana", "3")
			if got := p.got(titled(t, "3")); names(got) != "notification" {
				t.Errorf("%s", names(got))
			}
		})
	}
}

// A forwarded poll is answered with the bye when its stream ends.
func TestPollElsewhereHearsTheEnd(t *testing.T) {
	one, _, p := newTurns(t, sse.Options{})
	p.next()
	answer := make(chan []event)
	go func() { answer <- p.next() }()
	polltest.Until(t, "it waits", func() bool { return one.hub.WaitingPolls() == 1 })
	one.stop()
	if got := <-answer; names(got) != "bye" || byeCode(t, got[0]) != "shutting_down" {
		t.Errorf("%+v", got)
	}
}

// Of two polls on one stream, at two notifiers, the newer one gets the events, and the older one ends.
func TestPollElsewhereNewerWins(t *testing.T) {
	one, two, p := newTurns(t, sse.Options{})
	p.next()
	p.Wait = patience
	older := make(chan sse.Answer, 1)
	at := *p.polling
	at.s = two
	go func() { older <- at.ask() }()
	polltest.Until(t, "it waits", func() bool { return one.hub.WaitingPolls() == 1 })
	newer := make(chan sse.Answer, 1)
	here := *p.polling
	here.s = one
	go func() { newer <- here.ask() }()
	if a := <-older; len(a.Events) != 0 || a.ID != p.LastEventID || a.Stream != p.Stream {
		t.Errorf("%+v", a)
	}
	one.notify("ana", "news")
	if a := <-newer; names(eventsOf(a)) != "notification" {
		t.Errorf("%+v", a)
	}
}

// A forwarded poll is checked for its user and token as another one is.
func TestPollElsewhereIsAllowed(t *testing.T) {
	one, two, p := newTurns(t, sse.Options{})
	p.next()
	bob := two.polling("bob", p.LastEventID)
	bob.Stream, bob.Wait = p.Stream, 0
	if got := bob.open(); !strings.Contains(got[0].data, `"bob"`) {
		t.Errorf("%+v", got)
	}
	p.Expires, p.TokenID, p.Wait = time.Now().Add(time.Hour), "new", 0
	p.n = 1
	if got := p.next(); len(got) != 0 {
		t.Errorf("%s", names(got))
	}
	one.hub.EndToken("new") // the current token
	if got := p.next(); names(got) != "bye" || byeCode(t, got[0]) != "token_revoked" {
		t.Errorf("%+v", got)
	}

	p.Stream, p.LastEventID, p.n = "", "", 0
	p.next()
	refused := errors.New("refused")
	p.Check = func() error { return refused }
	p.Wait = 0
	if _, err := two.hub.Poll(t.Context(), p.Poll); !errors.Is(err, refused) {
		t.Error(err)
	}
}

// The name of a stream that a client sends cannot address another subject.
func TestPollOfNoNotifier(t *testing.T) {
	s := newPolled(t, sse.Options{})
	asked, err := s.hubConn.SubscribeSync(defaultNS.PollSubject(">"))
	if err != nil {
		t.Fatal(err)
	}
	known := strings.Repeat("A", 26)
	for _, stream := range []string{"-", "a-b.1", ">-x.1", "*-x.1", known + "-x.1", strings.Repeat("a", 26) + "-x.1", strings.Repeat("A", 25) + " -x.1"} {
		p := s.polling("ana", "")
		p.Stream, p.Wait = stream, 0
		if got := p.next(); names(got) != "hello" {
			t.Errorf("%q: %s", stream, names(got))
		}
	}
	if m, err := asked.NextMsg(patience); err != nil || m.Subject != defaultNS.PollSubject(known) {
		t.Errorf("%v %v", m, err)
	}
	if n, _, err := asked.Pending(); err != nil || n > 0 {
		t.Errorf("%d more were asked, %v", n, err)
	}
}
