package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hark-jobs/hark/client"
)

// phase is the time of one fault: what was posted and enqueued in it, and how the fault was felt.
type phase struct {
	name    string
	over    chan struct{}
	retries sync.WaitGroup // jobs that are run again by their users

	mu       sync.Mutex
	begin    time.Time // of the fault
	said     []string  // what was done, and when
	postings []posting
	jobs     []*job
	failures []failure

	untilNext, forGood int // notifications and ends that a stream lacked, see settle
}

// failure is a call that failed.
type failure struct {
	what string
	at   time.Time // of its end
	took time.Duration
}

// start says that the fault begins now.
func (p *phase) start() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.begin = time.Now()
}

func (p *phase) enqueuedJobs() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.jobs)
}

// step notes what is done now.
func (p *phase) step(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.said = append(p.said, fmt.Sprintf("%.1f %s", time.Since(p.begin).Seconds(), fmt.Sprintf(format, args...)))
}

func (p *phase) failed(what string, err error, began time.Time) {
	now := time.Now()
	code := "no answer"
	var problem *client.Problem
	switch {
	case errors.As(err, &problem):
		code = strings.TrimSpace(fmt.Sprintf("%d %s", problem.Status, problem.Code))
	case errors.Is(err, errStale):
		code = errStale.Error()
	case errors.Is(err, context.DeadlineExceeded):
		code = "timeout"
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failures = append(p.failures, failure{what + " " + code, now, now.Sub(began)})
}

func (p *phase) posted(n posting) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.postings = append(p.postings, n)
}

func (p *phase) enqueued(j *job) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.jobs = append(p.jobs, j)
}

// missing returns the readers that lack something of the phase, with what they lack.
func (p *phase) missing(l *ledger) map[*reader][]string {
	p.mu.Lock()
	defer p.mu.Unlock()
	lacks := make(map[*reader][]string)
	for _, n := range p.postings {
		for _, r := range l.recipients(n) {
			if _, ok := r.came(n.title); !ok {
				lacks[r] = append(lacks[r], n.title)
			}
		}
	}
	for _, j := range p.jobs {
		r := l.readers[j.user]
		if want, got := len(j.accepted()), len(r.endsOf(j.id)); got < want {
			lacks[r] = append(lacks[r], fmt.Sprintf("end %d of job %s", got+1, j.id))
		}
	}
	return lacks
}

const (
	// settleTime is how long the streams may take to get all that was posted, with nothing posted meanwhile. Jobs have a lease more.
	settleTime = 30 * time.Second
	// flushTime is how long they may take after one more notification.
	flushTime = 30 * time.Second
)

// settle waits until all streams have all of the phase. It posts one more notification to each user who lacks something
// then, and waits again. What comes only then counts as missing until the next one, and what does not come as missing for good.
func (p *phase) settle(l *ledger, lease time.Duration) {
	await := func(d time.Duration) map[*reader][]string {
		for end := time.Now().Add(d); ; time.Sleep(50 * time.Millisecond) {
			lacks := p.missing(l)
			if len(lacks) == 0 || time.Now().After(end) {
				return lacks
			}
		}
	}
	first := await(settleTime + lease)
	if len(first) > 0 {
		p.untilNext = countOf(first)
		l.t.Logf("%s: missing until the next notification: %v\n%s", p.name, shown(first), l.parts.diagnose())
		for r := range first {
			l.notify(p, r.user)
		}
		if last := await(flushTime); len(last) > 0 {
			p.forGood = countOf(last)
			p.untilNext -= min(p.untilNext, p.forGood)
			l.t.Logf("%s: missing for good: %v\n%s", p.name, shown(last), l.parts.diagnose())
		}
	}
	close(p.over)
	p.retries.Wait()
	await(settleTime + lease) // for the ends of the last retries; verdict counts those that have not come
}

func countOf(lacks map[*reader][]string) (n int) {
	for _, of := range lacks {
		n += len(of)
	}
	return n
}

func shown(lacks map[*reader][]string) string {
	var b strings.Builder
	for r, of := range lacks {
		fmt.Fprintf(&b, "%s lacks %q; ", r.user, of[:min(len(of), 5)])
		if b.Len() > 2000 {
			break
		}
	}
	return b.String()
}

// felt is how a fault was felt, in seconds.
type felt struct {
	postToStream, acceptedToStream, end float64 // the worst ones
	errorsFrom, errorsTo, slowestCall   float64
	late                                int // accepted and more than a second later on the stream
	codes                               map[string]int
}

// felt returns how the fault was felt by streams and callers.
func (p *phase) felt(l *ledger) felt {
	p.mu.Lock()
	defer p.mu.Unlock()
	f := felt{codes: make(map[string]int)}
	for _, n := range p.postings {
		for _, r := range l.recipients(n) {
			at, ok := r.came(n.title)
			if !ok {
				continue
			}
			f.postToStream = max(f.postToStream, at.Sub(n.first).Seconds())
			after := at.Sub(n.accepted).Seconds()
			f.acceptedToStream = max(f.acceptedToStream, after)
			if after > 1 {
				f.late++
			}
		}
	}
	for _, j := range p.jobs {
		ends := l.readers[j.user].endsOf(j.id)
		if accepted := j.accepted(); len(ends) > 0 && !j.fails {
			f.end = max(f.end, ends[0].at.Sub(accepted[0]).Seconds()-j.seconds)
		}
	}
	for i, e := range p.failures {
		at := e.at.Sub(p.begin).Seconds()
		if i == 0 {
			f.errorsFrom = at
		}
		f.errorsFrom, f.errorsTo = min(f.errorsFrom, at), max(f.errorsTo, at)
		f.slowestCall = max(f.slowestCall, e.took.Seconds())
		f.codes[e.what]++
	}
	return f
}

// row is the phase's row of the table in docs/guarantees.md.
func (p *phase) row(l *ledger) string {
	f := p.felt(l)
	var codes []string
	for _, what := range slices.Sorted(maps.Keys(f.codes)) {
		codes = append(codes, fmt.Sprintf("%d %s", f.codes[what], what))
	}
	from, slowest := "", ""
	if len(codes) > 0 {
		from, slowest = fmt.Sprintf("%.1f..%.1f", f.errorsFrom, f.errorsTo), fmt.Sprintf("%.1f", f.slowestCall)
	}
	return fmt.Sprintf("| %s | %.1f | %.1f | %s | %s | %s | %d | %.1f |",
		p.name, f.postToStream, f.acceptedToStream, strings.Join(codes, ", "), from, slowest, f.late, f.end)
}

const tableHead = `| fault | worst POST to stream, s | worst accepted to stream, s | callers' errors, all made again | from..to, s | slowest failing call, s | accepted and > 1 s late | worst end of a job announced, s |
|---|---|---|---|---|---|---|---|`
