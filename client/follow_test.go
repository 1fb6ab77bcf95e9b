package client_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hark-jobs/hark/client"
	"github.com/hark-jobs/hark/jobs"
)

// backend has one job and, unless disabled, the streams of ana. A stream has the job if it is hers, or has no user.
type backend struct {
	mu       sync.Mutex
	job      jobs.Job
	changed  chan struct{} // closed at the next change
	noStream bool
	polls    int
}

func newBackend() *backend {
	return &backend{job: jobs.Job{ID: "J", State: jobs.Queued, Revision: 1}, changed: make(chan struct{})}
}

func (b *backend) set(state jobs.State, done int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.job.State, b.job.Progress.Done = state, done
	b.job.Revision++
	close(b.changed)
	b.changed = make(chan struct{})
}

func (b *backend) get() (jobs.Job, chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.job, b.changed
}

func (b *backend) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	job, changed := b.get()
	switch {
	case r.URL.Path == "/v1/jobs/J":
		b.mu.Lock()
		b.polls++
		b.mu.Unlock()
		json.NewEncoder(w).Encode(job)
	case r.URL.Path == "/v1/stream" && !b.noStream:
		say("event: hello\nid: e-1\ndata: {\"user\":\"ana\"}\n\n")(w, r)
		for {
			w.(http.Flusher).Flush()
			select {
			case <-changed:
				if job, changed = b.get(); job.User == "bob" {
					continue
				}
				data, _ := json.Marshal(job)
				fmt.Fprintf(w, "event: job\ndata: %s\n\n", data)
			case <-time.After(15 * time.Second):
				fmt.Fprint(w, ":\n\n")
			case <-r.Context().Done():
				return
			}
		}
	default:
		refuse(404, `{"code":"not_found","detail":"Nothing is here."}`)(w, r)
	}
}

// follow follows a job in the background and returns the observations after the job has ended.
func follow(t *testing.T, c *client.Client, job jobs.Job) (wait func() (seen []string, trouble []error)) {
	var seen []string
	var trouble []error
	done := make(chan struct{})
	go func() {
		defer close(done)
		last, err := c.Follow(t.Context(), job, client.FollowOptions{
			OnJob:     func(j jobs.Job) { seen = append(seen, fmt.Sprint(j.State, j.Progress.Done)) },
			OnTrouble: func(err error) { trouble = append(trouble, err) },
		})
		if err != nil || !last.State.Terminal() {
			t.Errorf("Follow: %v, %v", last.State, err)
		}
	}()
	return func() ([]string, []error) { <-done; return seen, trouble }
}

func TestFollowByTheStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackend()
		_, c := serve(t, b)
		job, _ := b.get()
		wait := follow(t, c, job)
		for i := range 3 {
			time.Sleep(time.Second)
			b.set(jobs.Running, int64(i))
			synctest.Wait()
		}
		b.set(jobs.Succeeded, 3)
		seen, trouble := wait()
		if want := "[queued0 running0 running1 running2 succeeded3]"; fmt.Sprint(seen) != want || len(trouble) != 0 {
			t.Errorf("saw %v, %v, want %s", seen, trouble, want)
		}
		if b.polls != 1 {
			t.Errorf("asked %d times, want once, after hello", b.polls)
		}
	})
}

func TestFollowWithoutAStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackend()
		b.noStream = true
		_, c := serve(t, b)
		job, _ := b.get()
		wait := follow(t, c, job)
		time.Sleep(10 * time.Second)
		b.set(jobs.Running, 1)
		time.Sleep(10 * time.Second)
		b.set(jobs.Failed, 1)
		seen, trouble := wait()
		if want := "[queued0 running1 failed1]"; fmt.Sprint(seen) != want || len(trouble) != 0 {
			t.Errorf("saw %v, %v, want %s", seen, trouble, want)
		}
		if b.polls < 9 || b.polls > 12 {
			t.Errorf("asked %d times in 20 s", b.polls)
		}
	})
}

// A job of another user is not in the stream, so it is polled as often as without a stream.
func TestFollowAnotherUser(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackend()
		b.job.User = "bob"
		_, c := serve(t, b)
		job, _ := b.get()
		wait := follow(t, c, job)
		time.Sleep(20 * time.Second) // longer than the interval of reads with a stream
		b.set(jobs.Succeeded, 1)
		began := time.Now()
		if seen, _ := wait(); fmt.Sprint(seen) != "[queued0 succeeded1]" {
			t.Errorf("saw %v, want queued0 and succeeded1", seen)
		}
		if d := time.Since(began); d > 3*time.Second {
			t.Errorf("the end was seen after %v, want 2 s at most", d)
		}
	})
}

// TestFollowOutlivesARestart stops the server for a long time, and lets the job end meanwhile.
func TestFollowOutlivesARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackend()
		m, c := serve(t, b)
		job, _ := b.get()
		wait := follow(t, c, job)
		time.Sleep(time.Second)
		b.set(jobs.Running, 1)
		synctest.Wait()
		m.stop()
		time.Sleep(10 * time.Minute)
		b.set(jobs.Succeeded, 2)
		m.start()
		seen, trouble := wait()
		if want := "[queued0 running1 succeeded2]"; fmt.Sprint(seen) != want {
			t.Errorf("saw %v, want %s", seen, want)
		}
		if len(trouble) < 2 || !client.Temporary(trouble[0]) || trouble[len(trouble)-1] != nil {
			t.Errorf("got %v, want the trouble and its end", trouble)
		}
	})
}

func TestFollowGivesUpForGood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, c := serve(t, http.HandlerFunc(refuse(401, `{"code":"token_expired","detail":"The token has expired."}`)))
		_, err := c.Follow(t.Context(), jobs.Job{ID: "J", State: jobs.Running}, client.FollowOptions{})
		if err == nil || err.Error() != "The token has expired." {
			t.Errorf("got %v", err)
		}
	})
}
