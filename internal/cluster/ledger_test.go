package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/hark-jobs/hark/client"
	"github.com/hark-jobs/hark/jobs"
)

// ledger posts and enqueues for users, each of whom has a stream, and keeps what was accepted.
type ledger struct {
	t        *testing.T
	parts    *parts
	name     string
	balancer *balancer
	readers  []*reader
	byUser   map[string]*reader
	service  *client.Client   // posts notifications
	clients  []*client.Client // of the users
	pace     pace

	mu     sync.Mutex
	posted map[string]int // how many notifications of each user were posted, and of all under the ledger's name
	jobs   []*job
	errors []string // answers that are wrong whatever has failed
	gaveUp int
	tries  int
}

// pace is how often each user does something, on average; 0 is never.
type pace struct{ notification, broadcast, job time.Duration }

// posting is a notification of the ledger.
type posting struct {
	who      string // a user, or the ledger's name for all users
	title    string
	first    time.Time // when it was posted first
	accepted time.Time
}

// job is a job of the ledger. Some jobs fail, and are run again by their users.
type job struct {
	user    int
	id      string
	seconds float64
	fails   bool

	mu   sync.Mutex
	runs []time.Time // when each run was accepted
}

func (j *job) accept(at time.Time) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.runs = append(j.runs, at)
}

func (j *job) accepted() []time.Time {
	j.mu.Lock()
	defer j.mu.Unlock()
	return append([]time.Time(nil), j.runs...)
}

// newLedger makes a ledger for users of its own, and their readers, which do not read yet. Several ledgers can follow one
// another on the same cluster.
func newLedger(parts *parts, name string, users int, p pace) *ledger {
	t := parts.t
	t.Helper()
	l := &ledger{t: t, parts: parts, name: name, balancer: newBalancer(parts.urls), pace: p, posted: make(map[string]int), byUser: make(map[string]*reader)}
	t.Cleanup(l.balancer.transport.CloseIdleConnections)
	l.service = l.client("service", "notify")
	for u := range users {
		user := fmt.Sprintf("%s %d@example.com", name, u)
		l.clients = append(l.clients, l.client(user))
		r := newReader(user, name, token(t, user), &http.Client{Transport: l.balancer})
		l.readers, l.byUser[user] = append(l.readers, r), r
	}
	return l
}

func (l *ledger) client(user string, scopes ...string) *client.Client {
	l.t.Helper()
	c, err := client.New(client.Options{URL: "http://hark", Token: token(l.t, user, scopes...), HTTPClient: &http.Client{Transport: l.balancer}})
	if err != nil {
		l.t.Fatal(err)
	}
	return c
}

const (
	callTimeout = 12 * time.Second // of one call; a notifier answers within ten
	retryPause  = 100 * time.Millisecond
	patience    = 70 * time.Second // after which a caller gives up
)

// errStale is an answer that may be as old as its server's last contact with the others.
var errStale = errors.New("stale answer")

// again makes a call until it succeeds, as callers should who have a key. It returns false if the call never succeeded.
func (l *ledger) again(ph *phase, what string, call func(context.Context) error) bool {
	for begin := time.Now(); ; time.Sleep(retryPause) {
		at := time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
		err := call(ctx)
		late := ctx.Err() != nil
		cancel()
		l.mu.Lock()
		l.tries++
		l.mu.Unlock()
		if err == nil {
			return true
		}
		ph.failed(what, err, at)
		if !late && !client.Temporary(err) && !errors.Is(err, errStale) {
			l.wrong(fmt.Sprintf("%s: %v", what, err))
			return false
		}
		if time.Since(begin) > patience {
			l.mu.Lock()
			l.gaveUp++
			l.mu.Unlock()
			return false
		}
	}
}

func (l *ledger) wrong(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.errors = append(l.errors, text)
}

// notify posts the next notification to a user, or to all. Those to one user must be posted one after another.
func (l *ledger) notify(ph *phase, who string) {
	l.mu.Lock()
	l.posted[who]++
	n := l.posted[who]
	l.mu.Unlock()
	p := posting{who: who, title: titleOf(who, n), first: time.Now()}
	to := who
	if who == l.name {
		to = jobs.Everyone
	}
	ok := l.again(ph, "notify", func(ctx context.Context) error {
		_, err := l.service.Notify(ctx, to, jobs.Notification{Type: "ledger", Title: p.title, Key: p.title})
		return err
	})
	if ok {
		p.accepted = time.Now()
		ph.posted(p)
	}
}

// enqueue enqueues a job. If it fails, as one in ten does, its user runs it once more.
func (l *ledger) enqueue(ph *phase, u int) {
	l.mu.Lock()
	n := len(l.jobs)
	j := &job{user: u, seconds: 0.05 + rand.Float64()/2, fails: n%10 == 0}
	l.jobs = append(l.jobs, j)
	l.mu.Unlock()
	request := client.Request{Kind: "sleep", Params: fmt.Appendf(nil, `{"seconds":%.2f,"fail":%t}`, j.seconds, j.fails),
		MaxAttempts: 1 + n%2, IdempotencyKey: fmt.Sprintf("%s, job %d", l.name, n)}
	ok := l.again(ph, "enqueue", func(ctx context.Context) error {
		got, err := l.clients[u].Enqueue(ctx, request)
		if err == nil && j.id != "" && j.id != got.ID {
			l.wrong(fmt.Sprintf("job %d is accepted twice, as %s and %s", n, j.id, got.ID))
		}
		j.id = got.ID
		return err
	})
	if !ok {
		return
	}
	j.accept(time.Now())
	ph.enqueued(j)
	if j.fails {
		ph.retries.Go(func() { l.retry(ph, j) })
	}
}

// retry runs a failed job again once its end was announced.
func (l *ledger) retry(ph *phase, j *job) {
	for len(l.readers[j.user].endsOf(j.id)) == 0 {
		select {
		case <-ph.over:
			return // its end did not come in time, which is counted
		case <-time.After(20 * time.Millisecond):
		}
	}
	unknown := false // whether an earlier try may have been accepted
	ok := l.again(ph, "retry", func(ctx context.Context) error {
		_, err := l.clients[j.user].Retry(ctx, j.id)
		switch {
		case errors.Is(err, jobs.ErrNotEnded) && unknown:
			return nil
		case errors.Is(err, jobs.ErrNotEnded): // a NATS server that is cut off may still take itself for the leader
			return errStale
		case err != nil:
			unknown = true
		}
		return err
	})
	if ok {
		j.accept(time.Now())
	}
}

// recipients returns the readers that must get a notification.
func (l *ledger) recipients(n posting) []*reader {
	if n.who == l.name {
		return l.readers
	}
	return []*reader{l.byUser[n.who]}
}

// post has all users post and enqueue until stop is closed, and returns when everything is accepted or given up.
func (l *ledger) post(ph *phase, stop <-chan struct{}) {
	var users sync.WaitGroup
	often := func(every time.Duration, do func()) {
		if every == 0 {
			return
		}
		users.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(rand.N(2 * every)):
					do()
				}
			}
		})
	}
	for u, r := range l.readers {
		often(l.pace.notification, func() { l.notify(ph, r.user) })
		often(l.pace.job, func() { l.enqueue(ph, u) })
	}
	often(l.pace.broadcast, func() { l.notify(ph, l.name) })
	users.Wait()
}
