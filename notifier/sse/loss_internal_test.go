package sse

import (
	"testing"
	"time"

	"github.com/hark-jobs/hark/internal/natstest"
	"github.com/hark-jobs/hark/jobs"
	"github.com/nats-io/nats.go"
)

// newIdleHub returns a hub that hears all with room for so many messages, and hands nothing out.
func newIdleHub(t *testing.T, room int) (*Hub, *nats.Conn) {
	t.Helper()
	nc := natstest.Connect(t)
	queue, err := jobs.Open(t.Context(), nc, jobs.Config{})
	if err != nil {
		t.Fatal(err)
	}
	h, err := New(Options{Queue: queue, HearAll: true})
	if err != nil {
		t.Fatal(err)
	}
	h.live = make(chan *nats.Msg, room)
	if h.common, err = nc.ChanSubscribe(jobs.LiveSubjects, h.live); err != nil {
		t.Fatal(err)
	}
	return h, nc
}

// A hub that has too much to do is not given the work of looking after every feed with the next notification of anybody:
// each is looked after when it is its turn.
func TestMendEachInTurn(t *testing.T) {
	t.Parallel()
	h, nc := newIdleHub(t, 1)
	for _, user := range []string{"ana", "bob"} {
		if err := h.add(new(stream), user); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		if err := nc.Publish(jobs.LiveInboxSubject("carol"), nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	ana, bob := h.feeds["ana"], h.feeds["bob"]
	ana.oldest, bob.oldest = nil, nil // streams that were never begun
	h.mend()                          // as the error handler has it done, after each drop if there are many
	if h.mendCommon() || ana.dropped != 0 || bob.dropped != 0 {
		t.Error("all feeds at once")
	}
	h.mendFeed(ana)
	if ana.dropped != 2 || bob.dropped != 0 {
		t.Errorf("seen by ana: %d, by bob: %d", ana.dropped, bob.dropped)
	}
	for h.tick(time.Now()); len(h.chores.round) > 0; {
		h.doChores()
	}
	if bob.dropped != 2 {
		t.Errorf("seen by bob after a second: %d", bob.dropped)
	}
	// Who comes now has lost nothing.
	if err := h.add(new(stream), "dora"); err != nil {
		t.Fatal(err)
	}
	if n := h.feeds["dora"].dropped; n != 2 {
		t.Errorf("seen by dora: %d", n)
	}
}

// What was heard of a log that is no more is not handed out as if it were of the new one.
func TestStandsForgetsWhatWasHeard(t *testing.T) {
	t.Parallel()
	h, nc := newIdleHub(t, 10)
	for range 3 {
		if err := nc.Publish(jobs.LiveInboxSubject("ana"), nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	if n := len(h.live); n != 3 {
		t.Fatalf("%d messages wait", n)
	}
	h.stands(standing{epoch: h.currentEpoch(), last: 10, heard: 10})
	if n := len(h.live); n != 3 {
		t.Errorf("%d messages wait, and the log is what it was", n)
	}
	h.stands(standing{epoch: h.currentEpoch() + 1, last: 5, heard: 1000})
	if n := len(h.live); n != 0 {
		t.Errorf("%d messages of the old log wait", n)
	}
	if h.heard != 5 {
		t.Errorf("heard %d", h.heard)
	}
}
