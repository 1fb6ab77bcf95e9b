package chaos_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/hark-jobs/hark/client"
	"github.com/hark-jobs/hark/internal/harkproc"
	"github.com/hark-jobs/hark/internal/joblog"
	"github.com/hark-jobs/hark/internal/natstest"
	"github.com/hark-jobs/hark/internal/polltest"
	"github.com/hark-jobs/hark/jobs"
)

// powerCuts is how often the power is cut.
const powerCuts = 3

// TestPowerCut cuts the power of the machine with the log: its process is killed, and the end of the log is gone, which was
// not synced. Notifier and workers elsewhere go on. What was lost is lost. But all that is accepted from then on must be in
// every inbox and on every stream, once and in order, and every stream that resumes must get a reset.
func TestPowerCut(t *testing.T) {
	c := newCluster(t, setting{users: 6, streams: 2})
	for round := range powerCuts {
		for u := range c.s.users {
			c.notifyAndRun(u, fmt.Sprintf("round %d, before", round), 8)
		}
		c.inInboxes(fmt.Sprintf("round %d, before", round), 8)
		before, resets := c.epoch(), c.resets()

		serve := c.processes[0]
		serve.Kill()
		nats := filepath.Join(c.dir, serve.name, "nats")
		natstest.CutBack(t, nats, joblog.DefaultNamespace.LogStream(), 20+rand.IntN(20))
		natstest.RemoveIndex(t, nats, joblog.DefaultNamespace.LogStream())
		serve.Restart()
		for _, url := range c.urls {
			harkproc.Ready(t, url)
		}
		// At once, while the streams are still away.
		for u := range c.s.users {
			c.notifyAndRun(u, fmt.Sprintf("round %d, at once", round), 10)
		}
		after := c.epoch()
		if after <= before {
			t.Fatalf("the epoch is %d, after %d", after, before)
		}
		c.resumed(after, resets)
		marks := c.marks()
		for u := range c.s.users {
			c.notifyAndRun(u, fmt.Sprintf("round %d, after", round), 10)
		}
		c.inInboxes(fmt.Sprintf("round %d, at once", round), 10)
		c.inInboxes(fmt.Sprintf("round %d, after", round), 10)
		c.onStreams(marks, after)
	}
}

// notifyAndRun gets n notifications and a job of a user accepted, by either notifier, and waits for the job's end.
func (c *cluster) notifyAndRun(u int, title string, n int) {
	c.t.Helper()
	user := userName(u)
	for i := range n {
		service, err := client.New(client.Options{URL: c.urls[i%len(c.urls)], Token: token(c.t, "service", "notify"), HTTPClient: &http.Client{Timeout: 10 * time.Second}})
		if err != nil {
			c.t.Fatal(err)
		}
		polltest.Nil(c.t, title, func() error {
			_, err := service.Notify(c.t.Context(), user, jobs.Notification{Type: "test", Title: title, Key: fmt.Sprint(title, i)})
			return err
		})
	}
	clients := c.clients(user)
	request := client.Request{Kind: "sleep", Params: []byte(`{"seconds":0.01}`), MaxAttempts: 2, IdempotencyKey: title}
	id := c.enqueue(clients, request)
	polltest.Nil(c.t, "the end of a job", func() error {
		job, err := clients[0].Job(c.t.Context(), id)
		if err == nil && !job.State.Terminal() {
			err = errors.New(string(job.State))
		}
		return err
	})
}

// inInboxes waits until each inbox has the n notifications with a title, and fails if it has one twice.
func (c *cluster) inInboxes(title string, n int) {
	c.t.Helper()
	for u := range c.s.users {
		for i, one := range c.clients(userName(u)) {
			polltest.Nil(c.t, fmt.Sprintf("inbox %d of %s", i, userName(u)), func() error {
				found := 0
				for note, err := range one.Notifications(c.t.Context(), client.NotificationsQuery{Limit: 100}) {
					if err != nil {
						return err
					}
					if note.Title == title {
						found++
					}
				}
				if found > n {
					c.t.Fatalf("%d notifications %q, and %d were accepted", found, title, n)
				}
				if found < n {
					return fmt.Errorf("%d of %d %q", found, n, title)
				}
				return nil
			})
		}
	}
}

func (c *cluster) epoch() (epoch jobs.Epoch) {
	c.t.Helper()
	polltest.Nil(c.t, "the epoch", func() (err error) {
		epoch, err = c.queue.CurrentEpoch(c.t.Context())
		return err
	})
	return epoch
}

// resets returns how many resets each stream has got.
func (c *cluster) resets() (all []int) {
	for _, r := range c.readers {
		r.mu.Lock()
		all = append(all, r.resets)
		r.mu.Unlock()
	}
	return all
}

// resumed waits until every stream is in an epoch, and has got a reset since.
func (c *cluster) resumed(epoch jobs.Epoch, before []int) {
	c.t.Helper()
	for i, r := range c.readers {
		polltest.Nil(c.t, "a stream of "+r.user, func() error {
			at, err := jobs.ParsePosition(r.position())
			if err == nil && at.Epoch != epoch {
				err = fmt.Errorf("it is at %s, and the epoch is %d", at, epoch)
			}
			if err == nil && c.resets()[i] == before[i] {
				err = errors.New("it has got no reset")
			}
			return err
		})
	}
}

// marks returns how far each stream has come with the notifications of its user.
func (c *cluster) marks() (all []uint64) {
	c.t.Helper()
	for _, r := range c.readers {
		at, err := jobs.ParsePosition(r.position())
		if err != nil {
			c.t.Fatal(err)
		}
		all = append(all, at.Own)
	}
	return all
}

// onStreams checks that each stream gets all that the log has behind its mark, once and in order.
func (c *cluster) onStreams(marks []uint64, epoch jobs.Epoch) {
	c.t.Helper()
	for i, r := range c.readers {
		var want []string
		for _, e := range c.log(r.user) {
			if id, err := jobs.ParseNotificationID(e.id); err != nil || id.Epoch != epoch {
				c.t.Fatalf("%s, %v; the epoch is %d", e.id, err, epoch)
			} else if id.Seq > marks[i] {
				want = append(want, e.id)
			}
		}
		polltest.Nil(c.t, "a stream of "+r.user, func() error {
			r.mu.Lock()
			defer r.mu.Unlock()
			var got []string
			for _, text := range r.ids {
				if id, err := jobs.ParseNotificationID(text); err == nil && id.Epoch == epoch && id.Seq > marks[i] {
					got = append(got, text)
				}
			}
			if !slices.Equal(got, want) {
				return fmt.Errorf("it got %v, and the log has %v", got, want)
			}
			return nil
		})
	}
}
