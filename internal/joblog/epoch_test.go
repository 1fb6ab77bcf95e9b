package joblog_test

import (
	"testing"
	"time"

	"github.com/hark-jobs/hark/internal/joblog"
	"github.com/hark-jobs/hark/internal/natstest"
	"github.com/hark-jobs/hark/jobs"
)

// An epoch that was begun is the stream's for every process, also for those that come later, and hark setup keeps it.
func TestBeginEpoch(t *testing.T) {
	nc := natstest.Connect(t)
	open := func() *joblog.Store {
		q, err := joblog.Open(natstest.Context(t), nc, joblog.Options{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { q.Close() })
		return q
	}
	first, second := open(), open()
	before := first.Epoch()
	begun, err := first.BeginEpoch(natstest.Context(t), 0)
	if err != nil || begun <= before || first.Epoch() != begun {
		t.Fatalf("begun %d, %v, after %d; the queue says %d", begun, err, before, first.Epoch())
	}
	if now, err := second.CurrentEpoch(natstest.Context(t)); err != nil || now != begun || second.Epoch() != begun {
		t.Errorf("another queue says %d, %v, then %d", now, err, second.Epoch())
	}
	if _, err := joblog.Setup(natstest.Context(t), nc, joblog.Location{}, joblog.Settings{Lease: 5 * time.Second}, false); err != nil {
		t.Fatal(err)
	}
	if now := open().Epoch(); now != begun {
		t.Errorf("a queue that comes later says %d, not %d", now, begun)
	}
	stored, _, err := first.Notify(natstest.Context(t), "ana", jobs.Notification{Type: "t", Title: "x"})
	if err != nil {
		t.Fatal(err)
	}
	if id, err := jobs.ParseNotificationID(stored.ID); err != nil || id.Epoch != begun {
		t.Errorf("a notification gets the id %s", stored.ID)
	}
	// One that is asked to be later than a clock that is ahead is.
	ahead := jobs.Epoch(time.Now().Add(time.Hour).UnixMilli())
	if begun, err = second.BeginEpoch(natstest.Context(t), ahead); err != nil || begun <= ahead {
		t.Errorf("%d, %v, after %d", begun, err, ahead)
	}
}
