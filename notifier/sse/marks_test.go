package sse_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/hark-jobs/hark/internal/natstest"
	"github.com/hark-jobs/hark/internal/polltest"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/notifier/sse"
	"github.com/nats-io/nats.go/jetstream"
)

// stored is a notification of the log, as the tests' model has it.
type stored struct {
	jobs.NotificationID
	all bool // a broadcast
}

// missedAfter returns the ids of what comes after a position: after each mark what is in its log.
func missedAfter(log []stored, at jobs.Position) (ids []string) {
	for _, n := range log {
		if n.all && n.Seq > at.All || !n.all && n.Seq > at.Own {
			ids = append(ids, n.String())
		}
	}
	return ids
}

// position parses the id of an event.
func position(t testing.TB, e event) jobs.Position {
	t.Helper()
	at, err := jobs.ParsePosition(e.id)
	if err != nil {
		t.Fatalf("%+v: %v", e, err)
	}
	return at
}

// checkPositions checks the ids of the notifications among events: each moves the mark of its own log to where the log has it, and
// the other mark stays.
func checkPositions(t testing.TB, log []stored, at jobs.Position, events []event) {
	t.Helper()
	for _, e := range events {
		if e.name != "notification" {
			continue
		}
		id := decode[jobs.Notification](t, e.data).ID
		i := slices.IndexFunc(log, func(n stored) bool { return n.String() == id })
		if i < 0 {
			t.Fatalf("%s is not in the log", id)
		}
		if log[i].all {
			at.All = log[i].Seq
		} else {
			at.Own = log[i].Seq
		}
		if got := position(t, e); got != at {
			t.Fatalf("%s (a broadcast: %t) has the position %s, want %s", id, log[i].all, got, at)
		}
	}
}

// A reader that resumes gets what is after each of its marks, once, whatever the two are. The id of each event it gets says no more
// and no less: a reader that resumes after that gets the rest.
func TestEachMarkIsItsOwn(t *testing.T) {
	each(t, func(t *testing.T, w way) {
		s := newSystem(t, w, sse.Options{MaxStreams: 1000}, func(s *system) { s.hub.SetSettleAfter(time.Hour) })
		begin := s.notify("ana", "begin")
		var log []stored
		store := func(all bool, title string) {
			user := "ana"
			if all {
				user = jobs.Everyone
			}
			log = append(log, stored{s.notify(user, title), all})
		}
		const n = 9
		for i := range n {
			if rand.N(3) == 0 {
				s.notify("bob", "of another")
			}
			store(i == 1 || i != 0 && rand.N(2) == 0, "missed") // at least one in each log
		}
		for range 40 {
			at := jobs.Position{Epoch: begin.Epoch, Own: begin.Seq, All: begin.Seq}
			if i := rand.N(n + 1); i < n {
				at.Own = log[i].Seq
			}
			if i := rand.N(n + 1); i < n {
				at.All = log[i].Seq
			}
			want := missedAfter(log, at)
			r := s.open("ana", at.String())
			if hello := r.expect("hello"); position(t, hello) != at {
				t.Errorf("resumed after %s, and hello has %s", at, hello.id)
			}
			var events []event
			for range want {
				events = append(events, r.expect("notification"))
			}
			same(t, "after "+at.String(), ids(t, events), want)
			checkPositions(t, log, at, events)
			if len(events) > 0 { // the next one goes on after any of them
				k := rand.N(len(events))
				again := s.open("ana", events[k].id)
				again.expect("hello")
				for _, id := range want[k+1:] {
					if got := ids(t, []event{again.expect("notification")}); got[0] != id {
						t.Fatalf("after %s came %s, want %s", events[k].id, got[0], id)
					}
				}
				again.close()
			}
			if rand.N(4) == 0 { // and what comes live is the next
				store(rand.N(2) == 0, "live")
				e := r.expect("notification")
				same(t, "live", ids(t, []event{e}), []string{log[len(log)-1].String()})
				log = log[:len(log)-1]
				s.purge(e)
			}
			r.close()
		}
	})
}

// purge deletes a notification from the log again.
func (s *system) purge(e event) {
	s.t.Helper()
	id, err := jobs.ParseNotificationID(decode[jobs.Notification](s.t, e.data).ID)
	if err != nil {
		s.t.Fatal(err)
	}
	stream, err := s.queue.JetStream().Stream(natstest.Context(s.t), defaultNS.LogStream())
	if err == nil {
		err = stream.DeleteMsg(natstest.Context(s.t), id.Seq)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// A broadcast is one frame for all streams, and each has its own position as the id.
func TestBroadcastHasThePositionOfEachStream(t *testing.T) {
	each(t, func(t *testing.T, w way) {
		s := newSystem(t, w, sse.Options{}, func(s *system) { s.hub.DisableReplay() })
		const users = 100
		readers, begun, names := make([]*reader, users), make([]jobs.Position, users), s.usersOfFirst(users)
		logs := make([][]stored, users)
		for i := range users {
			if i%3 == 0 {
				s.notify("another", "so that not all begin at one place")
			}
			readers[i] = s.open(names[i], "")
			begun[i] = position(t, readers[i].expect("hello"))
		}
		for range 40 {
			if rand.N(4) == 0 {
				n := stored{s.notify(jobs.Everyone, "all"), true}
				for i := range logs {
					logs[i] = append(logs[i], n)
				}
			} else {
				i := rand.N(users)
				logs[i] = append(logs[i], stored{s.notify(names[i], "own"), false})
			}
		}
		last := stored{s.notify(jobs.Everyone, "last"), true}
		for i, r := range readers {
			logs[i] = append(logs[i], last)
			events := r.until(titled(t, "last"))
			same(t, names[i], ids(t, events), missedAfter(logs[i], jobs.Position{}))
			checkPositions(t, logs[i], begun[i], events)
		}
	})
}

// usersOfFirst returns users in the first stream of the log, whose broadcasts have the ids that notify returns.
func (s *system) usersOfFirst(n int) (users []string) {
	for i := 0; len(users) < n; i++ {
		if user := fmt.Sprint("user", i); s.queue.StreamOf(user) == 0 {
			users = append(users, user)
		}
	}
	return users
}

// A reader that comes back now and then, and for whom nothing is stored, is not reset when the log is newer than its last event: each
// hello moves the marks of the logs that have nothing for it. A log that has something keeps its mark.
func TestMarksKeepUpWithTheLog(t *testing.T) {
	each(t, func(t *testing.T, w way) {
		s := newSystem(t, w, sse.Options{Heartbeat: time.Second}, func(s *system) { s.hub.SetSettleAfter(time.Second) })
		expired := s.notify("dora", "expired")
		stream, err := s.queue.JetStream().Stream(natstest.Context(t), defaultNS.LogStream())
		if err == nil {
			err = stream.Purge(natstest.Context(t), jetstream.WithPurgeSequence(expired.Seq+1))
		}
		if err != nil {
			t.Fatal(err)
		}
		old := after(s.notify("ana", "old"))
		filler := s.notify("dora", "of another")
		var moved jobs.Position
		polltest.Until(t, "both marks have moved", func() bool {
			r := s.open("ana", old)
			defer r.close()
			moved = position(t, r.expect("hello"))
			return moved.Own >= filler.Seq && moved.All >= filler.Seq
		})
		missed := s.notify("ana", "missed")
		filler = s.notify("dora", "another one")
		var half event
		polltest.Until(t, "one mark has moved", func() bool {
			r := s.open("ana", moved.String())
			defer r.close()
			half = r.expect("hello")
			if e := r.expect("notification"); decode[jobs.Notification](t, e.data).ID != missed.String() {
				t.Fatalf("%+v", e)
			}
			return position(t, half).All >= filler.Seq
		})
		if at := position(t, half); at.Own != moved.Own {
			t.Errorf("hello has %s before what was missed, want the mark of %s", at, moved)
		}
		if err := stream.Purge(natstest.Context(t), jetstream.WithPurgeSequence(missed.Seq)); err != nil {
			t.Fatal(err)
		}
		r := s.open("ana", old)
		r.expect("hello")
		r.expect("reset")
		r.close()
		r = s.open("ana", moved.String())
		r.expect("hello")
		if e := r.expect("notification"); decode[jobs.Notification](t, e.data).ID != missed.String() {
			t.Errorf("%+v", e)
		}
	})
}
