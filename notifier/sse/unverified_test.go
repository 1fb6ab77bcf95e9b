package sse_test

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/hark-jobs/hark/internal/joblog"
	"github.com/hark-jobs/hark/internal/natstest"
	"github.com/hark-jobs/hark/internal/polltest"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/notifier/sse"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// forge publishes a live message that the log does not hold, as any program may that can publish on the live subjects.
func (s *system) forge(subject string, seq, before uint64, body string) {
	s.t.Helper()
	m := &nats.Msg{Subject: subject, Data: []byte(body), Header: nats.Header{
		"Nats-Stream": {defaultNS.LogStream()}, jetstream.SubjectHeader: {strings.Replace(subject, ".live.", ".log.", 1)},
	}}
	if seq > 0 {
		m.Header[jetstream.SequenceHeader] = []string{strconv.FormatUint(seq, 10)}
		m.Header[jetstream.LastSequenceHeader] = []string{strconv.FormatUint(before, 10)}
	}
	if err := s.queue.Conn().PublishMsg(m); err != nil {
		s.t.Fatal(err)
	}
	if err := s.queue.Conn().Flush(); err != nil {
		s.t.Fatal(err)
	}
}

// A live message with a sequence that the log does not hold is not delivered and moves no position: messages that are stored
// afterwards are delivered, once.
func TestForgedSequence(t *testing.T) {
	const note = `{"key":"f","type":"forged","title":"forged"}`
	for name, subject := range map[string]string{"own": joblog.LiveOf(defaultNS.NotificationSubject("ana")), "of everyone": joblog.LiveOf(defaultNS.NotificationSubject("_all")), "of an inbox": defaultNS.LiveInboxSubject("ana")} {
		for _, seq := range []uint64{0, 50, 1 << 40, 1<<64 - 1} {
			t.Run(fmt.Sprintf("%s %d", name, seq), func(t *testing.T) {
				eachOf(t, hearings, func(t *testing.T, w way) {
					s := newSystem(t, w, sse.Options{})
					r := s.open("ana", "")
					r.expect("hello")
					s.notify("ana", "first")
					got := r.until(titled(t, "first"))
					s.forge(subject, seq, 0, note)
					for i := range 20 {
						s.notify([]string{"ana", jobs.Everyone}[i%2], fmt.Sprint(i))
					}
					s.notify("ana", "last")
					got = append(got, r.until(titled(t, "last"))...)
					same(t, "ana", ids(t, got), s.log("ana", 0))
					again := s.open("ana", r.last)
					again.expect("hello")
					s.notify("ana", "later")
					if events := again.until(titled(t, "later")); len(events) != 1 {
						t.Errorf("after it came back: %v", events)
					}
				})
			})
		}
	}
}

// A page keeps the state with the greatest revision. One that the log does not hold is not shown.
func TestForgedState(t *testing.T) {
	eachOf(t, hearings, func(t *testing.T, w way) {
		s := newSystem(t, w, sse.Options{})
		r := s.open("ana", "")
		r.expect("hello")
		job := &jobs.Job{ID: jobID, User: "ana", Kind: "k", State: jobs.Running, Run: 1}
		s.forge(defaultNS.LiveStateSubject("ana", jobID), 1<<40, 0, `{"id":"`+jobID+`","kind":"k","user":"ana","state":"failed","run":1}`)
		revision := s.put(job, 0)
		for _, e := range r.until(jobAt(t, revision)) {
			if decode[jobs.Job](t, e.data).State != jobs.Running {
				t.Errorf("shown: %+v", e)
			}
		}
		polltest.Until(t, "counted", func() bool { return s.skipped()[joblog.SkippedLive] == 1 })
	})
}

// More forged messages than can wait for the log, and a log that does not answer for a while, lose nothing.
func TestManyForgedSequences(t *testing.T) {
	var fail func(error)
	s := newSystem(t, ways[0], sse.Options{}, func(s *system) { fail = s.hub.FailBounds() })
	r := s.open("ana", "")
	r.expect("hello")
	fail(context.DeadlineExceeded)
	for i := range 5000 {
		m := &nats.Msg{Subject: joblog.LiveOf(defaultNS.NotificationSubject("ana")), Data: []byte(`{"title":"forged"}`), Header: nats.Header{jetstream.SequenceHeader: {strconv.Itoa(1<<30 + i)}}}
		if err := s.queue.Conn().PublishMsg(m); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 10 {
		s.notify("ana", fmt.Sprint(i))
	}
	fail(nil)
	s.notify("ana", "last")
	same(t, "ana", ids(t, r.until(titled(t, "last"))), s.log("ana", 0))
}

// A live or stored message about a job of another user, or about none, is not shown.
func TestPoisonIsNotShown(t *testing.T) {
	eachOf(t, hearings, func(t *testing.T, w way) {
		s := newSystem(t, w, sse.Options{})
		r := s.open("ana", "")
		r.expect("hello")
		poison := func() {
			for _, body := range []string{"x", "{}", `{"id":"` + jobID + `","kind":"k","user":"bob","state":"failed","run":1,"max_attempts":1}`} {
				for _, subject := range []string{defaultNS.StateSubject("ana", jobID), defaultNS.SpecSubject("ana", "k", jobID), defaultNS.StateSubject("ana", "x"), defaultNS.SpecSubject("ana", "k", "x")} {
					if _, err := s.queue.JetStream().Publish(natstest.Context(t), subject, []byte(body)); err != nil {
						t.Fatal(err)
					}
				}
			}
			for _, body := range []string{"x", `{"key":"k"}`, `{"key":"k","type":"t","title":7}`, `{"key":"k","type":"t","title":"t","created_at":"yesterday"}`} {
				if _, err := s.queue.JetStream().Publish(natstest.Context(t), defaultNS.NotificationSubject("ana"), []byte(body)); err != nil {
					t.Fatal(err)
				}
			}
		}
		poison()
		s.notify("ana", "live")
		if got := r.until(titled(t, "live")); len(got) != 1 {
			t.Errorf("shown live: %v", got)
		}
		skipped := s.skipped()
		if skipped[joblog.SkippedState] != 6 || skipped[joblog.SkippedJob] != 6 || skipped[joblog.SkippedNotification] != 4 {
			t.Errorf("skipped %v", skipped)
		}
		s.unheard(poison)
		s.notify("ana", "from the log")
		if got := r.until(titled(t, "from the log")); len(got) != 1 {
			t.Errorf("shown from the log: %v", got)
		}
	})
}

// A message that the log has stored on a subject that hark never writes to is counted and listed once. Nothing else reads it.
func TestForeignSubjectsAreCounted(t *testing.T) {
	eachOf(t, hearings, func(t *testing.T, w way) {
		s := newSystem(t, w, sse.Options{})
		store := func(subject string) {
			if _, err := s.queue.JetStream().Publish(natstest.Context(t), subject, []byte(`{}`)); err != nil {
				t.Fatal(err)
			}
		}
		polltest.Until(t, "the hub reads the log", func() bool {
			store("hark.log.probe")
			return s.skipped()[joblog.SkippedSubject] > 0
		})
		subjects := []string{"hark.log.x", "hark.log.05.ana.news", "hark.log.06.ana.state." + jobID, "hark.log.05.bob.notification"}
		for _, subject := range subjects {
			store(subject)
		}
		polltest.Until(t, "all are listed, each once", func() bool {
			listed := make(map[string]int)
			for _, m := range s.hubQueue.ListSkipped() {
				listed[m.Subject]++
			}
			all := true
			for _, subject := range subjects {
				if listed[subject] > 1 {
					t.Fatalf("%s is listed %d times", subject, listed[subject])
				}
				all = all && listed[subject] == 1
			}
			n := s.skipped()
			return all && n[joblog.SkippedState] == 1 && n[joblog.SkippedNotification] == 1
		})
	})
}

func (s *system) skipped() map[joblog.Skippable]uint64 { return s.hubQueue.Skipped() }

// unheard calls a function while the hub receives nothing.
func (s *system) unheard(do func()) {
	s.t.Helper()
	s.proxy.cut()
	do()
	s.proxy.restore()
	polltest.Until(s.t, "connected again", s.hubConn.IsConnected)
}
