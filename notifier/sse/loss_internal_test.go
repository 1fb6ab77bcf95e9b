package sse

import (
	"testing"
	"time"

	"github.com/hark-jobs/hark/internal/joblog"
	"github.com/hark-jobs/hark/internal/natstest"
	"github.com/nats-io/nats.go"
)

// newIdleHub returns a hub that subscribes to all users, with room for that many messages, and delivers nothing.
func newIdleHub(t *testing.T, room int) (*Hub, *nats.Conn) {
	t.Helper()
	nc := natstest.Connect(t)
	queue, err := joblog.Open(natstest.Context(t), nc, joblog.Options{})
	if err != nil {
		t.Fatal(err)
	}
	h, err := New(Options{Queue: queue, SubscribeAll: true})
	if err != nil {
		t.Fatal(err)
	}
	h.live = make(chan *nats.Msg, room)
	if h.commonSub, err = nc.ChanSubscribe(joblog.DefaultNamespace.LiveSubjects(), h.live); err != nil {
		t.Fatal(err)
	}
	return h, nc
}

// A busy hub with one subscription does not check all users for dropped messages at the next notification. Each user is checked
// when it is served.
func TestDropsAreCheckedPerUser(t *testing.T) {
	t.Parallel()
	h, nc := newIdleHub(t, 1)
	for _, user := range []string{"ana", "bob"} {
		if err := h.addStream(new(stream), user); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		if err := nc.Publish(joblog.DefaultNamespace.LiveInboxSubject("carol"), nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	ana, bob := h.users["ana"], h.users["bob"]
	ana.oldest, bob.oldest = nil, nil // these streams were never started
	h.checkDrops()                    // as after NotifySlowConsumer
	if h.checkCommonDropsLocked(h.sources()[0]) || ana.droppedSeen != 0 || bob.droppedSeen != 0 {
		t.Error("all feeds at once")
	}
	h.checkUserDropsLocked(ana)
	if ana.droppedSeen != 2 || bob.droppedSeen != 0 {
		t.Errorf("seen by ana: %d, by bob: %d", ana.droppedSeen, bob.droppedSeen)
	}
	for h.startHousekeeping(time.Now()); len(h.housekeeping.unserved) > 0; {
		h.housekeepChunkLocked()
	}
	if bob.droppedSeen != 2 {
		t.Errorf("seen by bob after a second: %d", bob.droppedSeen)
	}
	// A stream that opens now has missed nothing.
	if err := h.addStream(new(stream), "dora"); err != nil {
		t.Fatal(err)
	}
	if n := h.users["dora"].droppedSeen; n != 2 {
		t.Errorf("seen by dora: %d", n)
	}
}

// Live messages of a log that is gone are not delivered after the new log is known.
func TestLiveMessagesOfALostLogAreDiscarded(t *testing.T) {
	t.Parallel()
	h, nc := newIdleHub(t, 10)
	for range 3 {
		if err := nc.Publish(joblog.DefaultNamespace.LiveInboxSubject("ana"), nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	if n := len(h.live); n != 3 {
		t.Fatalf("%d messages wait", n)
	}
	known := logKnown{h.currentEpoch(), []uint64{1000}}
	h.onLogPosition(logPosition{epoch: known.epoch, ends: []uint64{1000}, known: known})
	if n := len(h.live); n != 3 {
		t.Errorf("%d messages wait, and the log is what it was", n)
	}
	h.onLogPosition(logPosition{epoch: known.epoch + 1, ends: []uint64{5}, known: known})
	if n := len(h.live); n != 0 {
		t.Errorf("%d messages of the old log wait", n)
	}
	if heard := h.sources()[0].lastHeard; heard != 5 {
		t.Errorf("heard %d", heard)
	}
}

// A check of the log that was asked before a reset and answered after it begins no new epoch, and does not reset the readers again.
func TestLogIsCheckedTwiceAtOnce(t *testing.T) {
	t.Parallel()
	h, nc := newIdleHub(t, 10)
	ctx := natstest.Context(t)
	h.sources()[0].lastHeard = 1000
	known := h.logKnown()
	if err := h.queue.JetStream().DeleteStream(ctx, joblog.DefaultNamespace.LogStream()); err != nil {
		t.Fatal(err)
	}
	first, err := h.readLogPosition(ctx, known)
	if err != nil {
		t.Fatal(err)
	}
	if h.onLogPosition(first); h.currentEpoch() == known.epoch {
		t.Fatal("the lost log has caused no reset")
	}
	late, err := h.readLogPosition(ctx, known)
	if err != nil || late.epoch != first.epoch {
		t.Errorf("the late check has the epoch %d, the first one %d; %v", late.epoch, first.epoch, err)
	}
	if err := nc.Publish(joblog.DefaultNamespace.LiveInboxSubject("ana"), nil); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	if h.onLogPosition(late); len(h.live) != 1 || h.currentEpoch() != first.epoch {
		t.Errorf("after the late check the epoch is %d and %d messages wait; want %d and 1", h.currentEpoch(), len(h.live), first.epoch)
	}
}
