package cluster_test

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hark-jobs/hark/internal/polltest"
)

// setting is the size of a run.
type setting struct {
	churns, churners, reconnects int // how often, streams, and connections each time

	users   int
	pace    pace
	jobs    int // which are enqueued at least
	lengths lengths
	calm    time.Duration // before and after each fault
	lease   time.Duration
	drain   time.Duration // of hark's processes
}

var short = setting{
	churns: 1, churners: 20, reconnects: 500,
	users: 24, pace: pace{notification: 1200 * time.Millisecond, broadcast: 2 * time.Second, job: 3 * time.Second},
	lengths: lengths{killed: time.Second, frozen: 5 * time.Second, cut: 5 * time.Second, refused: time.Second}, calm: time.Second / 2, lease: 4 * time.Second, drain: 2 * time.Second,
}

var long = setting{
	churns: 1, churners: 100, reconnects: 10_000,
	users: 200, pace: pace{notification: 2 * time.Second, broadcast: 2 * time.Second, job: 18 * time.Second}, jobs: 5000,
	lengths: lengths{killed: 12 * time.Second, frozen: 20 * time.Second, cut: 15 * time.Second, refused: 8 * time.Second}, calm: 3 * time.Second, lease: 30 * time.Second, drain: 10 * time.Second,
}

// isLong reports whether this is the long form, as `make cluster-test` runs it.
func isLong() bool { return os.Getenv("HARK_CLUSTER") == "long" }

// TestCluster has streams come and go, and then has users post and enqueue while one part after another fails. With
// HARK_CLUSTER=long it takes about 15 minutes. HARK_CLUSTER_CHURNS is how often the streams come and go, and
// HARK_CLUSTER_FAULTS, a regular expression, chooses among the faults.
func TestCluster(t *testing.T) {
	t.Parallel()
	s := short
	if isLong() {
		s = long
	}
	if text := os.Getenv("HARK_CLUSTER_CHURNS"); text != "" {
		var err error
		if s.churns, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	p := startParts(t, s)
	for round := range s.churns {
		churn(t, p, round+1, s.churners, s.reconnects)
	}
	fail(t, p, s)
}

// fail has users post and enqueue while one part after another fails.
func fail(t *testing.T, p *parts, s setting) {
	l := newLedger(p, "user", s.users, s.pace)
	defer l.listen()()
	var phases []*phase
	var table strings.Builder
	all := chosen(t)
	for i, f := range all {
		ph := &phase{name: f.title(s.lengths), over: make(chan struct{})}
		phases = append(phases, ph)
		begin := time.Now()
		l.during(ph, s, s.jobs/len(faults), func() { f.do(p, ph, s.lengths) })
		ph.step("settled, %.1f s after the phase began", time.Since(begin).Seconds())
		if i < len(all)-1 {
			p.ready()
			ph.step("all ready")
		}
		row := ph.row(l)
		fmt.Fprintln(&table, row)
		t.Logf("%s\n%s", strings.Join(ph.said, "; "), row)
	}
	v := l.verdict(phases)
	t.Logf("%d notifications, %d jobs, %d calls; %d streams connected %d times\n%v\n\n%s\n%v",
		l.notifications(), len(l.jobs), l.tries, len(l.readers), l.connects(), v, tableHead, &table)
	if v != (verdict{}) {
		t.Error("something that must never be, was")
	}
}

// chosen returns the faults of this run.
func chosen(t *testing.T) (all []fault) {
	t.Helper()
	only, err := regexp.Compile(os.Getenv("HARK_CLUSTER_FAULTS"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range faults {
		if (f.short || isLong()) && only.MatchString(f.name) {
			all = append(all, f)
		}
	}
	return all
}

// listen opens the streams of all users, and returns when all are open. stop ends them.
func (l *ledger) listen() (stop func()) {
	l.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var reading sync.WaitGroup
	for _, r := range l.readers {
		reading.Go(func() { r.run(ctx) })
	}
	stop = sync.OnceFunc(func() { cancel(); reading.Wait() })
	l.t.Cleanup(stop)
	for _, r := range l.readers {
		polltest.Until(l.t, "the stream is open", func() bool { return r.position() != "" })
	}
	return stop
}

// during has all users post while a fault happens, and until they have enqueued a number of jobs. Then it waits until the
// streams have everything.
func (l *ledger) during(ph *phase, s setting, jobs int, do func()) {
	end, ended := make(chan struct{}), make(chan struct{})
	ph.start()
	go func() { defer close(ended); l.post(ph, end) }()
	time.Sleep(s.calm)
	ph.start()
	do()
	time.Sleep(s.calm)
	for ph.enqueuedJobs() < jobs {
		time.Sleep(50 * time.Millisecond)
	}
	close(end)
	<-ended
	ph.settle(l, s.lease)
}

func (l *ledger) notifications() (n int) {
	for _, posted := range l.posted {
		n += posted
	}
	return n
}

// connects returns how many connections the streams have made.
func (l *ledger) connects() (n int) {
	for _, r := range l.readers {
		r.mu.Lock()
		n += r.connects
		r.mu.Unlock()
	}
	return n
}
