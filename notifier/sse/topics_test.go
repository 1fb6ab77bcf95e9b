package sse_test

import (
	"slices"
	"testing"
	"time"

	"github.com/hark-jobs/hark/notifier/sse"
)

// A stream that is ended while it opens, such as one of a token that is revoked at this moment, leaves no listener behind.
func TestStreamThatEndsBeforeItListens(t *testing.T) {
	s := newPolled(t, sse.Options{})
	p := s.polling("ana", "")
	p.Topics = []string{"a", "b"}
	p.Check = func() error {
		s.hub.EndUser("ana", time.Now())
		poll(t, "the stream has left the hub", func() bool { return s.hub.Open() == 0 })
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
