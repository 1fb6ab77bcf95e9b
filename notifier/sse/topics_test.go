package sse_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hark-jobs/hark/internal/natstest"
	"github.com/hark-jobs/hark/internal/polltest"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/notifier/sse"
)

// A stream that is ended while it opens, such as one of a token that is revoked at this moment, leaves no listener behind.
func TestStreamThatEndsBeforeItListens(t *testing.T) {
	s := newPolled(t, sse.Options{})
	p := s.polling("ana", "")
	p.Topics = []string{"a", "b"}
	p.Check = func() error {
		s.hub.EndUser("ana", time.Now())
		polltest.Until(t, "the stream has left the hub", func() bool { return s.hub.Open() == 0 })
		return nil
	}
	if events := p.next(); slices.ContainsFunc(events, func(e event) bool { return e.name == "hello" }) {
		t.Errorf("got %+v after the end", events)
	}
	if n := s.hub.Topics(); n != 0 {
		t.Errorf("%d topics have listeners, want none", n)
	}
}

// A reader that replaces a stream by another one ignores the missed event for the time between them. So what the new stream
// itself has missed while it opened is another event.
func TestMissedWhileOpening(t *testing.T) {
	opening := make(chan func(), 1)
	s := newSystem(t, ways[0], sse.Options{}, func(s *system) {
		s.hub.BeforeBounds(func() {
			select {
			case do := <-opening:
				do()
			default:
			}
		})
	})
	first := s.listen("ana", "", "a")
	opening <- func() {
		s.publish("a", 1)
		first.expect("live")
		s.hub.PauseDelivery()() // the new stream has been served, too
	}
	second := s.listen("ana", first.last, "b", "a", "b")
	if got := missed(t, second.expect("missed")); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("missed %q since the last stream, want a and b", got)
	}
	if got := missed(t, second.expect("missed")); !slices.Equal(got, []string{"a"}) {
		t.Errorf("missed %q while the stream opened, want a", got)
	}
}

// A page fetches its state after a missed event. Events from before the loss that it gets later would show an older state, so
// one more missed event follows them.
func TestMissedAfterEventsFromBefore(t *testing.T) {
	s := newSystem(t, ways[0], sse.Options{}, func(s *system) { s.hub.SetEventBuffer(5); s.mute.Store(true) })
	r := s.listen("ana", "", "a", "b")
	release := s.hub.PauseDelivery()
	for i := range 20 {
		s.publish("a", i)
	}
	if err := s.hubConn.FlushWithContext(natstest.Context(t)); err != nil { // all of them are in the buffer, or dropped
		t.Fatal(err)
	}
	release()
	polltest.Until(t, "there is room again", func() bool { return s.hub.WaitingEvents() == 0 })
	s.publish("b", 1)
	events, last := 0, ""
	for e := r.expectOne("live", "missed"); e.name == "missed" || number(t, e) != "b 1"; e = r.expectOne("live", "missed") {
		events++
		last = e.name
	}
	if last != "missed" || events < 5 {
		t.Errorf("the last of %d events before that of another topic is %s, want missed", events, last)
	}
}

// A reader that polls seldom misses live events that its stream has no room for. It learns of that, and goes on.
func TestMissedBetweenPolls(t *testing.T) {
	s := newPolled(t, sse.Options{})
	p := s.polling("ana", "")
	p.Topics = []string{"a"}
	p.open()
	data := fmt.Appendf(nil, "%q", strings.Repeat("x", 4<<10))
	for range 40 {
		if err := s.queue.PublishEvent(natstest.Context(t), jobs.LiveEvent{Topic: "a", Type: "large", Data: data}); err != nil {
			t.Fatal(err)
		}
	}
	id := s.notify("ana", "end")
	if err := s.hubConn.FlushWithContext(natstest.Context(t)); err != nil {
		t.Fatal(err)
	}
	polltest.Until(t, "all have been delivered", func() bool { return s.hub.WaitingEvents() == 0 && s.hub.WaitingLive() == 0 })
	large, times, notified := 0, 0, false
	for times == 0 || !notified {
		for _, e := range p.next() {
			switch e.name {
			case "live":
				large++
			case "missed":
				times++
			case "notification":
				notified = slices.Equal(ids(t, []event{e}), []string{id.String()})
			}
		}
	}
	// A reader fetches its state after each missed event. The stream may run out of room twice.
	if large == 0 || large >= 40 || times > 2 {
		t.Errorf("%d of 40 events came, and %d missed events", large, times)
	}
	s.publish("a", 7)
	if got := number(t, p.next()[0]); got != "a 7" {
		t.Errorf("got %q, want a 7", got)
	}
}
