package sse_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hark-jobs/hark/internal/natstest"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/notifier/sse"
	"github.com/nats-io/nats.go/jetstream"
)

// Readers that leave and come back at random points while notifications keep coming get each once, in order.
func TestResumeWhileWritten(t *testing.T) {
	each(t, func(t *testing.T, w way) {
		s := newSystem(t, w, sse.Options{})
		checkRandomReaders(t, s, 200, func(int) {})
	})
}

// checkRandomReaders has readers of several users leave and come back while n notifications are written;
// before is called before each.
func checkRandomReaders(t *testing.T, s *system, n int, before func(i int)) {
	t.Helper()
	users := []string{"ana", "bob", "carl"}
	var work sync.WaitGroup
	got := make([][]string, 2*len(users))
	for i := range got {
		r := s.open(users[i/2], "")
		r.expect("hello")
		work.Go(func() { got[i] = s.comeAndGo(users[i/2], r) })
	}
	for i := range n {
		before(i)
		who := append(users, jobs.Everyone)[rand.N(len(users)+1)]
		s.notify(who, fmt.Sprint(i))
	}
	s.notify(jobs.Everyone, "end")
	work.Wait()
	for i := range got {
		same(t, fmt.Sprintf("reader %d", i), got[i], s.log(users[i/2], 0))
	}
}

// comeAndGo reads a user's notifications up to the one titled "end" and reopens its stream now and then.
func (s *system) comeAndGo(user string, r *reader) (got []string) {
	end := titled(s.t, "end")
	for {
		for range rand.N(30) {
			e, ok := r.next()
			if !ok {
				break
			}
			got = append(got, ids(s.t, []event{e})...)
			if end(e) {
				return got
			}
		}
		r.close()
		last := r.last
		for r = nil; r == nil; {
			r, _ = s.tryOpen(user, last)
		}
	}
}

// A reader that was away for long gets all that it missed.
func TestResumeFar(t *testing.T) {
	t.Parallel()
	s := newSystem(t, ways[0], sse.Options{})
	first := s.notify("ana", "first")
	s.fill("ana", 3000) // several pages
	s.fill("other", 10_000)
	s.fill(jobs.Everyone, 300)
	s.fill("ana", 3000)
	r := s.open("ana", after(first))
	s.notify("ana", "end")
	got := ids(t, r.until(titled(t, "end")))
	same(t, "ana", got, s.log("ana", first.Seq))
	s.notify("ana", "live")
	r.until(titled(t, "live"))
}

func TestReset(t *testing.T) {
	each(t, func(t *testing.T, w way) {
		s := newSystem(t, w, sse.Options{})
		for i := range 5 {
			s.notify("ana", fmt.Sprint(i))
		}
		old := s.notify("ana", "old")
		s.notify("ana", "kept")
		last := s.notify("dora", "last") // in the same stream of four
		stream, err := s.queue.JetStream().Stream(natstest.Context(t), defaultNS.LogStream())
		if err != nil {
			t.Fatal(err)
		}
		if err := stream.Purge(natstest.Context(t), jetstream.WithPurgeSequence(old.Seq+1)); err != nil {
			t.Fatal(err)
		}
		at := func(own, all uint64) string { return jobs.Position{Epoch: old.Epoch, Own: own, All: all}.String() }
		end := at(last.Seq, last.Seq)
		for id, reason := range map[string]string{
			jobs.Position{Epoch: old.Epoch - 1, Own: old.Seq, All: old.Seq}.String(): "other_epoch",
			jobs.Position{Epoch: old.Epoch + 1, Own: old.Seq, All: old.Seq}.String(): "other_epoch",
			at(last.Seq+1, last.Seq):            "other_epoch",
			at(last.Seq, last.Seq+1):            "other_epoch",
			at(1<<64-1, last.Seq):               "other_epoch",
			at(last.Seq, 1<<64-1):               "other_epoch",
			at(old.Seq-1, last.Seq):             "expired",
			at(last.Seq, old.Seq-1):             "expired",
			at(0, 0):                            "expired",
			last.String():                       "unknown_id", // the id of a notification
			"garbage":                           "unknown_id",
			"1-2":                               "unknown_id",
			"1-2-3-4":                           "unknown_id",
			end[:strings.LastIndex(end, "-")+1]: "unknown_id", // cut off
			strings.ToUpper(end):                "unknown_id",
			end[:3] + " " + end[3:]:             "unknown_id",
			"-" + end:                           "unknown_id",
			"99999999999999999999999999999-1-1": "unknown_id",
		} {
			r := s.open("ana", id)
			// A reader that gets hello alone comes back with the id that it had.
			if e := r.expect("hello"); e.id != "" || decode[struct{ ID string }](t, e.data).ID != end {
				t.Errorf("%s: hello is %+v, the log stands at %s", id, e, end)
			}
			e := r.expect("reset")
			if got := decode[struct{ Reason, ID string }](t, e.data); got.Reason != reason || got.ID != end || e.id != end {
				t.Errorf("%s: %+v, expected %s", id, e, reason)
			}
			r.close()
		}
		r := s.open("ana", at(old.Seq, old.Seq))
		r.expect("hello")
		if e := r.expect("notification"); decode[jobs.Notification](t, e.data).Title != "kept" {
			t.Errorf("%+v", e)
		}
	})
}

// A stream that is asked for before the hub runs misses nothing.
func TestOpenBeforeRun(t *testing.T) {
	t.Parallel()
	run := make(chan struct{})
	s := newSystem(t, ways[0], sse.Options{}, func(s *system) { s.wait = func() { <-run } })
	first := s.notify("ana", "first")
	opened := make(chan *reader, 1)
	go func() { r, _ := s.tryOpen("ana", after(first)); opened <- r }()
	var r *reader
	select {
	case r = <-opened: // it may, as long as it misses nothing
		r.expect("hello")
	case <-time.After(100 * time.Millisecond):
	}
	s.notify(jobs.Everyone, "early")
	close(run)
	if r == nil {
		r = <-opened
	}
	s.notify("ana", "end")
	same(t, "ana", ids(t, r.until(titled(t, "end"))), s.log("ana", first.Seq))
}

// Every stream of a user gets the live events, and no stream of another user does.
func TestOnlyMine(t *testing.T) {
	t.Parallel()
	s := newSystem(t, ways[0], sse.Options{})
	users := []string{"a@b.c", "aa@b.c", "a", "a.b", "*", ">", "A", "a b", "日本", "_al", "a=40b=2Ec"}
	readers := make([]*reader, len(users))
	for i, user := range users {
		readers[i] = s.open(user, "")
		readers[i].expect("hello")
	}
	for i, user := range users {
		s.notify(user, "to "+user)
		s.put(&jobs.Job{ID: fmt.Sprintf("01JD3Q%020d", i), User: user, Kind: "k", State: jobs.Running, Run: 1}, 0)
		if err := s.queue.PublishLive(defaultNS.LiveInboxSubject(user), fmt.Appendf(nil, `{"unread":%d}`, i)); err != nil {
			t.Fatal(err)
		}
	}
	s.notify(jobs.Everyone, "end")
	for i, user := range users {
		got := readers[i].until(titled(t, "end"))
		for len(got) < 4 { // the inbox's word is no part of the log's order
			e, _ := readers[i].next()
			got = append(got, e)
		}
		for _, e := range got {
			switch e.name {
			case "notification":
				if n := decode[jobs.Notification](t, e.data); n.Title != "to "+user && n.Title != "end" {
					t.Errorf("%q got %s", user, e.data)
				}
			case "job":
				if j := decode[jobs.Job](t, e.data); j.User != user {
					t.Errorf("%q got %s", user, e.data)
				}
			case "inbox":
				if n := decode[struct{ Unread int }](t, e.data); n.Unread != i {
					t.Errorf("%q got %s", user, e.data)
				}
			}
		}
	}
	for i := range users {
		select {
		case e := <-readers[i].events:
			t.Errorf("%q got %+v as well", users[i], e)
		case <-time.After(time.Millisecond):
		}
	}
}
