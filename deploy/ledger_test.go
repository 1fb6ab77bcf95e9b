package deploy_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hark-jobs/hark/client"
	"github.com/hark-jobs/hark/jobs"
)

// ledger records what hark has accepted for a user: notifications and jobs by their keys.
type ledger struct {
	t    *testing.T
	user string
	c    *client.Client // may notify

	mu            sync.Mutex
	next          int
	notifications map[string]bool   // titles
	jobs          map[string]string // ids by key
	retries       int
}

func newLedger(t *testing.T, user string, c *client.Client) *ledger {
	return &ledger{t: t, user: user, c: c, notifications: make(map[string]bool), jobs: make(map[string]string)}
}

// post posts a notification and enqueues a short job, and retries with their keys until they are accepted.
func (l *ledger) post() {
	l.mu.Lock()
	l.next++
	n := l.next
	l.mu.Unlock()
	title := fmt.Sprintf("entry %d", n)
	ok := l.again(title, func(ctx context.Context) error {
		_, err := l.c.Notify(ctx, l.user, jobs.Notification{Type: "ledger", Title: title, Key: title})
		return err
	})
	if ok {
		l.mu.Lock()
		l.notifications[title] = true
		l.mu.Unlock()
	}
	key := fmt.Sprintf("job %d", n)
	var id string
	ok = l.again(key, func(ctx context.Context) error {
		job, err := l.c.Enqueue(ctx, client.Request{Kind: "sleep", Params: json.RawMessage(`{"seconds":0.5}`), IdempotencyKey: key})
		id = job.ID
		return err
	})
	if ok {
		l.mu.Lock()
		l.jobs[key] = id
		l.mu.Unlock()
	}
}

// again retries a call until it succeeds. It fails the test after two minutes, or after a permanent error.
func (l *ledger) again(what string, call func(context.Context) error) bool {
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(200 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(l.t.Context(), 10*time.Second)
		err := call(ctx)
		late := ctx.Err() != nil
		cancel()
		if err == nil {
			return true
		}
		if l.t.Context().Err() != nil {
			return false
		}
		if !late && !client.Temporary(err) || time.Now().After(end) {
			l.t.Errorf("%s is not accepted: %v", what, err)
			return false
		}
		l.mu.Lock()
		l.retries++
		l.mu.Unlock()
	}
}

// keep posts a few entries per second until it is stopped.
func (l *ledger) keep() (stop func()) {
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-end:
				return
			case <-time.After(300 * time.Millisecond):
				l.post()
			}
		}
	}()
	return sync.OnceFunc(func() { close(end); <-ended })
}

// accepted returns the number of accepted entries.
func (l *ledger) accepted() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.jobs)
}

// complete waits until everything accepted is in the user's inbox, once each: the notifications, and the success of each job.
func (l *ledger) complete(p *project) {
	p.t.Helper()
	wrong := []string{"not looked at"}
	p.until("the ledger is complete", 2*time.Minute, func() bool { wrong = l.wrong(); return len(wrong) == 0 },
		func() string { return fmt.Sprintf("%d faults, as these: %q", len(wrong), wrong[:min(len(wrong), 10)]) })
	p.t.Logf("the ledger is complete: %d notifications, %d jobs; %d calls were made again", len(l.notifications), len(l.jobs), l.retries)
}

// wrong compares the ledger with the inbox and the jobs.
func (l *ledger) wrong() (faults []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	ctx, cancel := context.WithTimeout(l.t.Context(), 30*time.Second)
	defer cancel()
	titles, ends := make(map[string]int), make(map[string]int)
	for n, err := range l.c.Notifications(ctx, client.NotificationsQuery{Limit: 100}) {
		if err != nil {
			return []string{err.Error()}
		}
		switch {
		case n.Type == "ledger":
			titles[n.Title]++
		case strings.HasPrefix(n.Type, "job."):
			ends[n.JobID+" "+n.Type]++
		}
	}
	for _, title := range slices.Sorted(maps.Keys(l.notifications)) {
		if titles[title] != 1 {
			faults = append(faults, fmt.Sprintf("%s is in the inbox %d times", title, titles[title]))
		}
	}
	for key, id := range l.jobs {
		if n := ends[id+" job.succeeded"]; n != 1 {
			faults = append(faults, fmt.Sprintf("the end of %s is in the inbox %d times", key, n))
		}
	}
	if len(faults) > 0 {
		return faults
	}
	states := make(map[string]string)
	for job, err := range l.c.Jobs(ctx, client.JobsQuery{}) {
		if err != nil {
			return []string{err.Error()}
		}
		states[job.ID] = string(job.State)
	}
	for key, id := range l.jobs {
		if states[id] != "succeeded" {
			faults = append(faults, fmt.Sprintf("%s is %q", key, states[id]))
		}
	}
	return faults
}
