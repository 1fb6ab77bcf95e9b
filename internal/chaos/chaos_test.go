package chaos_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/hark-jobs/hark/client"
	"github.com/hark-jobs/hark/internal/harkproc"
	"github.com/hark-jobs/hark/internal/joblog"
	"github.com/hark-jobs/hark/internal/natstest"
	"github.com/hark-jobs/hark/internal/polltest"
	"github.com/hark-jobs/hark/notifier/auth"
	"github.com/nats-io/nats.go"
)

const secret = "a secret that only this test knows, and long enough"

// setting is the size of a run.
type setting struct {
	jobs, users, streams int           // streams per user
	waiting              int           // how many jobs of a user may wait
	length               time.Duration // for which jobs are enqueued
	every                time.Duration // after which a process is killed
}

// eager says whether the user of that number enqueues all jobs at once, so that the limits of one user hold them back. The
// others enqueue theirs at a pace.
func eager(user int) bool { return user%5 == 0 }

// TestChaos kills hark's processes while it works. With HARK_CHAOS_JOBS set, as `make chaos` does, it is
// as long as that says; otherwise it is short.
func TestChaos(t *testing.T) {
	s := setting{jobs: 100, users: 10, streams: 2, waiting: 3, length: 12 * time.Second, every: time.Second}
	if text := os.Getenv("HARK_CHAOS_JOBS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		s = setting{jobs: n, users: 50, streams: 2, waiting: 8, length: 2 * time.Minute, every: 2 * time.Second}
	}
	c := newCluster(t, s)
	stopHavoc, havocEnded := make(chan struct{}), make(chan struct{})
	go func() { defer close(havocEnded); havoc(c.processes, s.every, stopHavoc) }()
	c.enqueueAll()
	close(stopHavoc)
	<-havocEnded
	c.settle()
	c.judge()
}

// cluster is everything that takes part: the processes, and those who use them.
type cluster struct {
	t         *testing.T
	s         setting
	dir       string // each process has its folder there
	urls      []string
	processes []process
	readers   []*reader
	queue     *joblog.Store
	stop      context.CancelFunc
	reading   sync.WaitGroup

	mu       sync.Mutex
	accepted map[string]string // job id to user
	calls    map[string]int    // by what came of them
}

// newCluster starts a hark with everything embedded, and a notifier and two workers that stand on its NATS.
func newCluster(t *testing.T, s setting) *cluster {
	dir, log := t.TempDir(), logFile(t)
	natsAddr, first, second := harkproc.FreeAddr(t), harkproc.FreeAddr(t), harkproc.FreeAddr(t)
	c := &cluster{t: t, s: s, dir: dir, urls: []string{"http://" + first, "http://" + second},
		accepted: make(map[string]string), calls: make(map[string]int)}
	add := func(name string, args ...string) {
		args = append(args, "--data", filepath.Join(dir, name), "--drain", "2s")
		c.processes = append(c.processes, process{name, harkproc.Start(t, log, args...)})
	}
	waiting := fmt.Sprintf("sleep=%d", s.waiting)
	add("serve", "serve", "--listen", first, "--nats-listen", natsAddr, "--jwt-secret", secret, "--lease", "2s",
		"--waiting-per-user", waiting, "--running-per-user", "sleep=2")
	add("notifier", "notifier", "--listen", second, "--nats", "nats://"+natsAddr, "--jwt-secret", secret,
		"--database", filepath.Join(dir, "inbox.db")) // the inbox of serve is another one: both must have all
	add("worker-1", "worker", "--nats", "nats://"+natsAddr, "--listen", "127.0.0.1:0",
		"--waiting-per-user", waiting, "--running-per-user", "sleep=1")
	add("worker-2", "worker", "--nats", "nats://"+natsAddr, "--listen", "127.0.0.1:0",
		"--waiting-per-user", waiting, "--concurrency", "sleep=16", "--running-per-user", "sleep=2")
	for _, url := range c.urls {
		harkproc.Ready(t, url)
	}
	nc, err := nats.Connect("nats://"+natsAddr, nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	if c.queue, err = joblog.Open(natstest.Context(t), nc, joblog.Options{}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	c.stop = cancel
	t.Cleanup(func() { cancel(); c.reading.Wait() })
	for u := range s.users {
		for i := range s.streams {
			r := &reader{user: userName(u), token: token(t, userName(u)), urls: c.urls, client: &http.Client{}, polls: (u+i)%3 == 0}
			c.readers = append(c.readers, r)
			c.reading.Go(func() { r.run(ctx) })
		}
	}
	for _, r := range c.readers { // each must get all that comes from here on
		polltest.Until(t, "the stream is open", func() bool { return r.position() != "" })
	}
	return c
}

func userName(i int) string { return fmt.Sprintf("user %d@example.com", i) }

func token(t *testing.T, user string, scopes ...string) string {
	t.Helper()
	issuer, err := auth.NewIssuer(auth.IssuerOptions{Secret: []byte(secret)})
	if err != nil {
		t.Fatal(err)
	}
	text, _, err := issuer.Issue(user, scopes, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// enqueueAll asks for the jobs, from as many users at a time as there are, at a pace that leaves room for the
// crashes. Each is asked for until it is accepted, under one idempotency key.
func (c *cluster) enqueueAll() {
	var users sync.WaitGroup
	pause := c.s.length * time.Duration(c.s.users) / time.Duration(c.s.jobs)
	for u := range c.s.users {
		users.Go(func() {
			clients := c.clients(userName(u))
			for i := u; i < c.s.jobs; i += c.s.users {
				if !eager(u) {
					time.Sleep(rand.N(2 * pause))
				}
				c.ask(clients, userName(u), i)
			}
		})
	}
	users.Wait()
}

func (c *cluster) clients(user string) []*client.Client {
	var all []*client.Client
	for _, url := range c.urls {
		one, err := client.New(client.Options{URL: url, Token: token(c.t, user), HTTPClient: &http.Client{Timeout: 10 * time.Second}})
		if err != nil {
			c.t.Error(err)
		}
		all = append(all, one)
	}
	return all
}

// ask gets one job accepted, and sometimes asks a second time, or cancels it.
func (c *cluster) ask(clients []*client.Client, user string, i int) {
	request := client.Request{
		Kind: "sleep", Params: fmt.Appendf(nil, `{"seconds":%.2f,"fail":%t}`, rand.Float64(), i%10 == 0),
		MaxAttempts: 2, IdempotencyKey: fmt.Sprintf("job %d", i),
	}
	id := c.enqueue(clients, request)
	if id == "" {
		return
	}
	c.mu.Lock()
	c.accepted[id] = user
	c.mu.Unlock()
	if i%7 == 0 {
		if again := c.enqueue(clients, request); again != id {
			c.t.Errorf("job %d was accepted twice, as %s and %s", i, id, again)
		}
	}
	if i%9 == 0 {
		_, err := clients[rand.IntN(len(clients))].Cancel(c.t.Context(), id)
		var problem *client.Problem
		switch {
		case err == nil:
			c.count("cancels accepted")
		case errors.As(err, &problem) && problem.Code == "job_ended":
			c.count("cancels too late")
		default:
			c.count("cancels failed")
		}
	}
}

// enqueue asks for a job until it is accepted, and returns its id.
func (c *cluster) enqueue(clients []*client.Client, request client.Request) string {
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		job, err := clients[rand.IntN(len(clients))].Enqueue(c.t.Context(), request)
		if err == nil {
			return job.ID
		}
		if problem, ok := errors.AsType[*client.Problem](err); ok && problem.Code == "too_many_waiting" {
			c.count("enqueues refused, since too many of the user's jobs wait")
		} else {
			c.count("enqueues failed, and made again")
		}
		if !client.Temporary(err) || time.Now().After(end) {
			c.t.Errorf("%s is not accepted: %v", request.IdempotencyKey, err)
			return ""
		}
	}
}

func (c *cluster) count(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls[what]++
}
