package sse_test

import (
	"testing"
	"time"

	"github.com/hark-jobs/hark/internal/polltest"
	"github.com/hark-jobs/hark/notifier/sse"
)

// A connection to NATS on which all packets vanish is noticed by the hub, long before its pings would: here these have the default of
// nats.go, which is six minutes. The streams stay open, and get what was stored meanwhile.
func TestSilentConnection(t *testing.T) {
	s := newSystem(t, ways[0], sse.Options{})
	r := s.listen("ana", "", "a")
	s.notify("ana", "before")
	r.expect("notification")
	s.proxy.freeze()
	begin := time.Now()
	s.notify("ana", "meanwhile")
	comes(r, titled(t, "meanwhile"))
	t.Logf("noticed within %v", time.Since(begin))
	s.publish("a", 1)
	events := comes(r, named("live"))
	if got := number(t, events[len(events)-1]); got != "a 1" {
		t.Errorf("got %s after the reconnect", got)
	}
}

// Without NATS for some seconds a hub sends its readers away, if there is another hub for them. Otherwise they stay.
func TestCutOff(t *testing.T) {
	one, two := twoHubs(t, ways[0], sse.Options{Drain: 10 * time.Millisecond}, func(s *system) { s.hub.SetByeAfter(3) })
	r := two.listen("ana", "", "a")
	stays := one.listen("bob", "", "a")
	two.proxy.cut()
	events := comes(r, named("bye"))
	if bye := events[len(events)-1]; byeCode(t, bye) != "nats_lost" || bye.retry < 100 {
		t.Errorf("got %+v", bye)
	}
	again := one.open("ana", r.last)
	again.expect("hello")
	one.notify("ana", "hello")
	comes(again, titled(t, "hello"))
	one.notify("bob", "hello")
	comes(stays, titled(t, "hello"))
	two.proxy.restore()
	polltest.Until(t, "the hub takes streams again", func() bool {
		r, _ := two.tryOpen("cyd", "")
		return r != nil
	})
}

// The readers of the only hub stay with it: it serves them as soon as NATS is back.
func TestOnlyHubIsCutOff(t *testing.T) {
	s := newSystem(t, ways[0], sse.Options{}, func(s *system) { s.hub.SetByeAfter(3) })
	r := s.listen("ana", "", "a")
	s.proxy.cut()
	polltest.Until(t, "the hub has been without NATS for longer than the readers of one of several stay", func() bool { return s.hub.SecondsWithoutNATS() > 4 })
	s.proxy.restore()
	s.notify("ana", "back")
	for _, e := range comes(r, titled(t, "back")) {
		if e.name == "bye" {
			t.Errorf("got %+v", e)
		}
	}
}
