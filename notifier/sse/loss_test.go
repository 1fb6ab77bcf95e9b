package sse_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/hark-jobs/hark/internal/joblog"
	"github.com/hark-jobs/hark/internal/natsd"
	"github.com/hark-jobs/hark/internal/natstest"
	"github.com/hark-jobs/hark/internal/polltest"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/notifier/sse"
)

const jobID = "01JD3Q00000000000000000000"

func tiny(s *system) { s.hub.SetLiveBuffer(2) }

// A channel that is too small for the live messages loses nothing for any reader.
func TestFullChannel(t *testing.T) {
	eachOf(t, hearings, func(t *testing.T, w way) {
		s := newSystem(t, w, sse.Options{}, tiny)
		checkRandomReaders(t, s, 200, func(i int) {
			if i%20 == 0 {
				release := s.hub.PauseDelivery()
				for j := range 6 {
					s.notify([]string{"ana", jobs.Everyone, "bob"}[j%3], "held")
				}
				release()
			}
		})
	})
}

// If the last messages are the dropped ones, no later message shows the gap.
func TestFullChannelLastDropped(t *testing.T) {
	for _, who := range []string{"ana", jobs.Everyone} {
		t.Run(who, func(t *testing.T) {
			eachOf(t, hearings, func(t *testing.T, w way) {
				s := newSystem(t, w, sse.Options{}, tiny)
				r := s.open("ana", "")
				r.expect("hello")
				release := s.hub.PauseDelivery()
				job := &jobs.Job{ID: jobID, User: "ana", Kind: "k", State: jobs.Running, Run: 1}
				revision := s.put(job, 0)
				for i := range 10 {
					s.notify(who, fmt.Sprint(i))
				}
				job.State = jobs.Succeeded
				revision = s.put(job, revision)
				s.notify(who, "last")
				release()
				got := r.until(jobAt(t, revision))
				if len(ids(t, got)) < 11 {
					got = append(got, r.until(titled(t, "last"))...)
				}
				same(t, "ana", ids(t, got), s.log("ana", 0))
			})
		})
	}
}

// jobAt accepts the event of a job at a revision.
func jobAt(t testing.TB, revision uint64) func(event) bool {
	return func(e event) bool {
		return e.name == "job" && decode[jobs.Job](t, e.data).Revision == revision
	}
}

// The id of a user's own notification says that the reader has every earlier broadcast: one that was dropped is written
// before it.
func TestDroppedBroadcastComesFirst(t *testing.T) {
	for _, order := range [][2]string{{jobs.Everyone, "ana"}, {"ana", jobs.Everyone}} {
		t.Run(order[0], func(t *testing.T) {
			eachOf(t, hearings, func(t *testing.T, w way) {
				s := newSystem(t, w, sse.Options{}, tiny)
				s.mute.Store(true)
				r, other := s.open("ana", ""), s.open("bob", "")
				r.expect("hello")
				other.expect("hello")
				release := s.hub.PauseDelivery()
				job := &jobs.Job{ID: jobID, User: "bob", Kind: "k", State: jobs.Running, Run: 1}
				revision := s.put(job, 0)
				s.flush()
				polltest.Until(t, "the first being handed out", func() bool { return s.hub.WaitingLive() == 0 })
				revision = s.put(job, revision) // this and the next fill the channel
				revision = s.put(job, revision)
				s.notify(order[0], "dropped")
				s.flush()
				release()
				other.until(jobAt(t, revision))
				s.notify(order[1], "after")
				same(t, "ana", ids(t, r.until(titled(t, "after"))), s.log("ana", 0))
			})
		})
	}
}

// flush waits until what was stored has reached the hub's connection, or its full channel.
func (s *system) flush() {
	s.t.Helper()
	if err := s.hubConn.Flush(); err != nil {
		s.t.Fatal(err)
	}
}

// A message of a new connection does not pass for the direct successor of one from the old connection.
func TestMissedComesBeforeNew(t *testing.T) {
	eachOf(t, hearings, func(t *testing.T, w way) {
		s := newSystem(t, w, sse.Options{})
		r, other := s.open("ana", ""), s.open("bob", "")
		r.expect("hello")
		other.expect("hello")
		for range 10 { // the hub may look at the connection first by chance
			release := s.hub.PauseDelivery()
			s.notify("bob", "handed out")
			s.flush()
			s.proxy.cut()
			polltest.Until(t, "cut", func() bool { return !s.hubConn.IsConnected() })
			s.notify(jobs.Everyone, "missed")
			s.proxy.restore()
			polltest.Until(t, "back", func() bool { return s.hubConn.IsConnected() && s.hubConn.FlushTimeout(time.Second) == nil })
			s.notify("ana", "after")
			s.flush()
			release()
			got := r.until(titled(t, "after"))
			if len(got) != 2 || !titled(t, "missed")(got[0]) {
				t.Fatalf("%+v", got)
			}
		}
	})
}

// The connection to NATS is cut and comes back, again and again.
func TestConnectionCut(t *testing.T) {
	each(t, func(t *testing.T, w way) {
		s := newSystem(t, w, sse.Options{})
		checkRandomReaders(t, s, 150, func(i int) {
			switch i % 50 {
			case 20:
				s.proxy.cut()
			case 25:
				s.proxy.restore()
			}
		})
	})
}

// A stream that stays open gets what it missed while NATS was away: notifications and jobs.
func TestMissedWhileCut(t *testing.T) {
	each(t, func(t *testing.T, w way) {
		s := newSystem(t, w, sse.Options{})
		r := s.open("ana", "")
		r.expect("hello")
		job := &jobs.Job{ID: jobID, User: "ana", Kind: "k", State: jobs.Running, Run: 1}
		revision := s.put(job, 0)
		s.notify("ana", "before")
		got := r.until(titled(t, "before"))
		for i := range 5 {
			s.proxy.cut()
			polltest.Until(t, "cut", func() bool { return !s.hubConn.IsConnected() })
			job.Attempt++
			revision = s.put(job, revision)
			s.notify("ana", "away")
			end := fmt.Sprint("away ", i)
			s.notify(jobs.Everyone, end)
			s.proxy.restore()
			now := r.until(jobAt(t, revision))
			if all := ids(t, now); len(all) < 2 {
				now = append(now, r.until(titled(t, end))...)
			}
			got = append(got, now...)
		}
		same(t, "ana", ids(t, got), s.log("ana", 0))
	})
}

// The server is restarted with what it has stored.
func TestServerRestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := newSystemIn(t, ways[0], dir, sse.Options{})
	r := s.open("ana", "")
	r.expect("hello")
	for i := range 3 {
		s.notify("ana", fmt.Sprint("before ", i))
		s.notify(jobs.Everyone, fmt.Sprint("all before ", i))
		addr := strings.TrimPrefix(s.ns.URL(), "nats://")
		s.ns.Stop()
		ns, err := natsd.Start(natsd.Options{Dir: dir, Listen: addr})
		if err != nil {
			t.Fatal(err)
		}
		s.ns = ns
		polltest.Until(t, "back", func() bool {
			_, _, err := s.queue.Bounds(t.Context(), 0)
			return err == nil
		})
		s.notify("ana", fmt.Sprint("after ", i))
	}
	s.notify(jobs.Everyone, "end")
	same(t, "ana", ids(t, r.until(titled(t, "end"))), s.log("ana", 0))
}

// The server comes back without what it had stored: the log is created again, and readers get a reset.
func TestStreamCreatedAgain(t *testing.T) {
	t.Parallel()
	s := newSystem(t, ways[0], sse.Options{})
	for range 20 {
		s.notify("ana", "old")
	}
	r := s.open("ana", "")
	r.expect("hello")
	s.notify("ana", "old")
	r.until(titled(t, "old"))
	s.proxy.cut()
	polltest.Until(t, "cut", func() bool { return !s.hubConn.IsConnected() })
	if err := s.queue.JetStream().DeleteStream(natstest.Context(t), defaultNS.LogStream()); err != nil {
		t.Fatal(err)
	}
	s.proxy.restore()
	polltest.Until(t, "back", s.hubConn.IsConnected)
	if e := r.expect("bye"); !strings.Contains(e.data, "stream_reset") || e.retry == 0 {
		t.Errorf("%+v", e)
	}
	r.ended()
	s.notify("ana", "new")
	again := s.open("ana", r.last)
	again.expect("hello")
	again.expect("reset")
	s.notify("ana", "newer")
	if e := again.expect("notification"); !titled(t, "newer")(e) {
		t.Errorf("%+v", e)
	}
}

// The server comes back without the end of what it had stored: a new epoch begins, so that the id of a lost message does not
// pass for that of a new one.
func TestLogThatWentBackBeginsANewEpoch(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := newSystemIn(t, ways[0], dir, sse.Options{})
	r := s.open("ana", "")
	r.expect("hello")
	for range 20 {
		s.notify("ana", "lost")
	}
	s.notify("ana", "the last that was lost")
	r.until(titled(t, "the last that was lost"))
	before := s.queue.Epoch()
	addr := strings.TrimPrefix(s.ns.URL(), "nats://")
	s.ns.Stop()
	natstest.CutBack(t, dir, defaultNS.LogStream(), 15)
	natstest.RemoveIndex(t, dir, defaultNS.LogStream())
	ns, err := natsd.Start(natsd.Options{Dir: dir, Listen: addr})
	if err != nil {
		t.Fatal(err)
	}
	s.ns = ns
	if e := r.expect("bye"); !strings.Contains(e.data, "stream_reset") {
		t.Errorf("%+v", e)
	}
	if now, err := s.queue.CurrentEpoch(natstest.Context(t)); err != nil || now <= before {
		t.Errorf("the epoch is %d, after %d; %v", now, before, err)
	}
	for range 20 { // they get the sequences of what was lost
		s.notify("ana", "new")
	}
	again := s.open("ana", r.last)
	again.expect("hello")
	again.expect("reset")
}

// The hub learns of an epoch that another process has begun within a heartbeat period.
func TestNewEpochIsTakenUp(t *testing.T) {
	t.Parallel()
	s := newSystem(t, ways[0], sse.Options{Heartbeat: time.Second})
	r := s.open("ana", "")
	r.expect("hello")
	other, err := joblog.Open(natstest.Context(t), s.queue.Conn(), joblog.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if _, err := other.BeginEpoch(natstest.Context(t), 0); err != nil {
		t.Fatal(err)
	}
	r.until(func(e event) bool { return strings.Contains(e.data, "stream_reset") })
	again := s.open("ana", r.last)
	again.expect("hello")
	again.expect("reset")
}

// A state that is received live during a replay is not replaced by an older one from the log.
func TestJobsWhileCatchingUp(t *testing.T) {
	t.Parallel()
	s := newSystem(t, ways[0], sse.Options{})
	r := s.open("ana", "")
	r.expect("hello")
	job := &jobs.Job{ID: jobID, User: "ana", Kind: "k", State: jobs.Running, Run: 1}
	if err := s.queue.PublishKind(natstest.Context(t), jobs.Kind{Name: "k", Title: "K", MaxAttempts: 1, Open: true}); err != nil {
		t.Fatal(err)
	}
	for range 12 {
		ordered, _, err := s.queue.Enqueue(natstest.Context(t), jobs.Request{User: "ana", Kind: "k"})
		if err != nil {
			t.Fatal(err)
		}
		job.ID = ordered.ID
		s.proxy.cut()
		polltest.Until(t, "cut", func() bool { return !s.hubConn.IsConnected() })
		revision := s.put(job, 0)
		s.proxy.restore()
		time.Sleep(time.Duration(rand.N(20)) * time.Millisecond) // any point of the reading will do
		revision = s.put(job, revision)
		s.notify("ana", job.ID)
		got := r.until(titled(t, job.ID))
		var last uint64
		for _, e := range got {
			if e.name == "job" {
				last = max(last, decode[jobs.Job](t, e.data).Revision)
			}
		}
		if last < revision {
			r.until(jobAt(t, revision))
		}
	}
}
