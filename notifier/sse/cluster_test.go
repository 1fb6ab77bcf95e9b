package sse_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hark-jobs/hark/internal/joblog"
	"github.com/hark-jobs/hark/internal/natstest"
	"github.com/hark-jobs/hark/internal/polltest"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/notifier/sse"
	"github.com/nats-io/nats.go"
)

// hubAt is the server that the hub of a [clusterSystem] is connected to. Server 0 leads all streams, and tests write there.
const hubAt = 2

// clusterSystem is a hub on a cluster of three NATS servers.
type clusterSystem struct {
	*system
	servers *natstest.Servers
}

// newClusterSystem starts the servers and the hub. Its connection may go to other servers, too.
func newClusterSystem(t *testing.T, o sse.Options, others ...int) *clusterSystem {
	t.Helper()
	servers := natstest.BreakableCluster(t, 3)
	s := &system{t: t, wait: func() {}, run: make(chan error, 1), served: make(chan error, 1000), queue: openReplicated(t, servers.ConnectTo(t, 0))}
	o.Queue = openReplicated(t, servers.ConnectTo(t, hubAt, func(o *nats.Options) error {
		for _, i := range others {
			o.Servers = append(o.Servers, servers.URLs()[i])
		}
		o.NoRandomize = true
		return nil
	}))
	s.hubConn = o.Queue.Conn()
	var err error
	if s.hub, err = sse.New(o); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	go func() { s.run <- s.hub.Run(ctx) }()
	s.server = httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(func() {
		stop()
		s.server.CloseClientConnections()
		s.server.Close()
		if err := <-s.run; err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
			t.Error("Run:", err)
		}
		s.server.Client().CloseIdleConnections()
	})
	return &clusterSystem{s, servers}
}

func openReplicated(t testing.TB, nc *nats.Conn) *joblog.Store {
	t.Helper()
	q, err := joblog.Open(natstest.Context(t), nc, joblog.Options{Settings: joblog.Settings{Replicas: 3}})
	if err != nil {
		t.Fatal(err)
	}
	return q
}

// startOther starts a hub on server 0, and returns when both hubs know of each other.
func (s *clusterSystem) startOther() (stop func()) {
	s.t.Helper()
	other, err := sse.New(sse.Options{Queue: openReplicated(s.t, s.servers.ConnectTo(s.t, 0))})
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	run := make(chan error, 1)
	go func() { run <- other.Run(ctx) }()
	hearBeats(s.t, s.hubConn).await(2, 4, false)
	return func() {
		cancel()
		if err := <-run; err != nil {
			s.t.Error(err)
		}
	}
}

// A hub whose NATS server is cut off from the others goes to another server. Its streams have what was stored meanwhile, and what is
// stored from then on, while the server is still cut off. It does so sooner if another hub has become silent.
func TestServerCutOff(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ others, leader int }{{0, 0}, {1, 0}, {0, hubAt}} {
		t.Run(fmt.Sprintf("other hubs: %d, leader: %d", test.others, test.leader), func(t *testing.T) {
			t.Parallel()
			s := newClusterSystem(t, sse.Options{}, 1)
			s.servers.Lead(test.leader)
			if test.others > 0 {
				defer s.startOther()()
			}
			r := s.open("cleo", "")
			r.expect("hello")
			s.servers.Cut(hubAt)
			at := time.Now()
			for _, title := range []string{"meanwhile", "afterwards"} {
				notifyWhenElected(t, s.queue, "cleo", title)
				comes(r, titled(t, title))
				t.Logf("%s: %v after the cut", title, time.Since(at))
			}
		})
	}
}

// A former leader that is cut off takes itself for the leader for ten seconds, and its log ends before what the hub has received. A
// hub that reconnects to it does not take the log for truncated: no stream is reset.
func TestReconnectToAFormerLeader(t *testing.T) {
	t.Parallel()
	s := newClusterSystem(t, sse.Options{}, 0)
	s.servers.Lead(0)
	r := s.open("cleo", "")
	r.expect("hello")
	others := openReplicated(t, s.servers.ConnectTo(t, 1))
	s.servers.Cut(0)
	notifyWhenElected(t, others, "cleo", "before")
	comes(r, titled(t, "before"))
	if err := s.hubConn.ForceReconnect(); err != nil {
		t.Fatal(err)
	}
	polltest.Until(t, "the hub is at the former leader", func() bool { return s.hubConn.ConnectedUrl() == s.servers.URLs()[0] })
	if _, _, err := others.Notify(natstest.Context(t), "cleo", jobs.Notification{Type: "t", Title: "after"}); err != nil {
		t.Fatal(err)
	}
	for _, e := range comes(r, titled(t, "after")) { // once the hub has left that server
		if e.name == "bye" || e.name == "reset" {
			t.Errorf("the stream got %+v", e)
		}
	}
}

// notifyWhenElected stores a notification, once the log has a leader.
func notifyWhenElected(t *testing.T, q *joblog.Store, user, title string) {
	t.Helper()
	polltest.Nil(t, "the log has a leader", func() error {
		short, cancel := context.WithTimeout(natstest.Context(t), time.Second)
		defer cancel()
		_, _, err := q.Notify(short, user, jobs.Notification{Type: "t", Title: title, Key: title})
		return err
	})
}

// TestCluster runs the tests of a hub on a cluster, one after another on the same one.
func TestCluster(t *testing.T) {
	t.Parallel()
	s := newClusterSystem(t, sse.Options{})
	for _, test := range []struct {
		name string
		do   func(*testing.T, *clusterSystem)
	}{
		{"ResumeFromLaggingReplica", resumeFromLaggingReplica},
		{"ResumeAfterALoss", resumeAfterALoss},
		{"LostBetweenServers", lostBetweenServers},
		{"RoutesCut", routesCut},
		{"LiveEventsMissed", liveEventsMissed},
	} {
		t.Run(test.name, func(t *testing.T) {
			s.t = t
			s.servers.Lead(0)
			test.do(t, s)
		})
	}
	s.t = t
}

// comes returns the events up to the first that is ok. It fails after a time, also if heartbeats keep coming.
func comes(r *reader, ok func(event) bool) []event {
	r.t.Helper()
	timer := time.AfterFunc(patience, r.close)
	defer timer.Stop()
	return r.until(ok)
}

// A stream that resumes gets what was stored before, also if the replica that answers does not have it yet: from either log, and
// whether something follows it or not.
func resumeFromLaggingReplica(t *testing.T, s *clusterSystem) {
	const lags = 1
	s.servers.Lag(lags, time.Second)
	defer s.servers.Heal(lags)
	s.open("ana", "").expect("hello") // keeps the user's subscription, so that nothing is lost live
	r := s.open("ana", "")
	r.expect("hello")
	for i := range 60 {
		r.close()
		missed, marker := fmt.Sprint("missed ", i), fmt.Sprint("marker ", i)
		s.notify([]string{"ana", jobs.Everyone}[i%2], missed)
		r = s.open("ana", r.last)
		until := missed
		if i%4 < 2 {
			until = marker
			s.notify("ana", marker)
		}
		found := 0
		for _, e := range comes(r, titled(t, until)) {
			if titled(t, missed)(e) {
				found++
			}
		}
		if found != 1 {
			t.Fatalf("%s came %d times", missed, found)
		}
	}
}

// A reader that has got a message of one log, and not an earlier one of the other that was lost between two servers, gets it when it
// comes back, before the hub has found out: the position does not say that the reader has it.
func resumeAfterALoss(t *testing.T, s *clusterSystem) {
	for i, users := range [][2]string{{"fay", jobs.Everyone}, {jobs.Everyone, "fay"}} {
		r := s.open("fay", "")
		r.expect("hello")
		s.notify("fay", fmt.Sprint("before ", i))
		r.until(titled(t, fmt.Sprint("before ", i)))
		lost, after := fmt.Sprint("lost ", i), fmt.Sprint("after ", i)
		s.servers.Lose(hubAt, strings.TrimSuffix(defaultNS.LiveSubject(users[0]), ">"))
		id := s.notify(users[0], lost)
		later := s.notify(users[1], after)
		events := comes(r, titled(t, after))
		r.close()
		s.servers.Heal(hubAt)
		if len(ids(t, events)) > 1 {
			t.Logf("%d: found before the reader left", i) // on a machine that stands still
		}
		at := position(t, events[len(events)-1])
		marks := map[string]uint64{"fay": at.Own, jobs.Everyone: at.All}
		if marks[users[1]] != later.Seq || len(events) == 1 && marks[users[0]] >= id.Seq {
			t.Errorf("%d: the position is %s, after %s and without %s", i, at, later, id)
		}
		r = s.open("fay", r.last)
		r.expect("hello")
		end := fmt.Sprint("end ", i)
		s.notify("fay", end)
		got := append(ids(t, events), ids(t, comes(r, titled(t, end)))...)
		if n := len(got); n != 3 || !slices.Contains(got, id.String()) || !slices.Contains(got, later.String()) {
			t.Errorf("%d: got %v, want %s, %s and the end", i, got, id, later)
		}
		r.close()
	}
}

// A message that is lost between two NATS servers is delivered within seconds, although nothing follows it and no connection
// was lost: a notification, a broadcast, and the state of a job.
func lostBetweenServers(t *testing.T, s *clusterSystem) {
	r := s.open("bea", "")
	r.expect("hello")
	s.notify("bea", "before")
	r.until(titled(t, "before"))
	s.servers.Lose(hubAt, strings.TrimSuffix(defaultNS.LiveSubjects(), ">"))
	defer s.servers.Heal(hubAt)
	for i, lose := range []func() func(event) bool{
		func() func(event) bool { s.notify("bea", "lost"); return titled(t, "lost") },
		func() func(event) bool { s.notify(jobs.Everyone, "lost for all"); return titled(t, "lost for all") },
		func() func(event) bool {
			job := &jobs.Job{ID: jobID, User: "bea", Kind: "k", State: jobs.Running, Run: 1}
			return jobAt(t, s.put(job, 0))
		},
	} {
		at := time.Now()
		comes(r, lose())
		t.Logf("%d came after %v", i, time.Since(at))
	}
	s.servers.Heal(hubAt)
	s.notify("bea", "after")
	r.until(titled(t, "after"))
}

// Messages that were stored while the routes of a notifier's NATS server were cut are delivered when the routes are back.
func routesCut(t *testing.T, s *clusterSystem) {
	r := s.open("cleo", "")
	r.expect("hello")
	s.notify("cleo", "before")
	r.until(titled(t, "before"))
	s.servers.Cut(hubAt)
	defer s.servers.Heal(hubAt)
	var want []string
	for i := range 5 {
		want = append(want, s.notify([]string{"cleo", jobs.Everyone}[i%2], fmt.Sprint("cut ", i)).String())
	}
	s.servers.Heal(hubAt)
	at := time.Now()
	same(t, "cleo", ids(t, comes(r, titled(t, "cut 4"))), want)
	t.Logf("came %v after the routes were back", time.Since(at))
}

// Live events that may have been lost between two NATS servers are missed: once when another hub has become silent, and
// again when it is back.
func liveEventsMissed(t *testing.T, s *clusterSystem) {
	defer s.startOther()()
	r := s.listen("dora", "", "a")
	at := time.Now()
	s.servers.Cut(hubAt)
	defer s.servers.Heal(hubAt)
	r.expect("missed")
	t.Logf("missed %v after the cut", time.Since(at))
	s.publish("a", 1) // on the other side
	s.servers.Heal(hubAt)
	at = time.Now()
	r.expect("missed")
	t.Logf("missed %v after the routes were back", time.Since(at))
	s.publish("a", 2)
	if got := number(t, r.expect("live")); got != "a 2" {
		t.Errorf("got %q, want a 2", got)
	}
}
