package e2e_test

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/hark-jobs/hark/client"
	"github.com/hark-jobs/hark/internal/harkproc"
	"github.com/hark-jobs/hark/jobs"
)

// Everything crashes, and comes back with a clock that is an hour behind: what ran runs again, what was to be tried again
// is, what waited behind other jobs of its user runs, and the notifications are in the inboxes. All of that takes seconds,
// not the hour.
func TestClockAnHourBack(t *testing.T) {
	t.Parallel()
	addr, data := harkproc.FreeAddr(t), t.TempDir()
	url := "http://" + addr
	p := harkproc.StartShifted(t, t.Output(), time.Hour, "serve", "--listen", addr, "--data", data, "--jwt-secret", secret,
		"--drain", "1s", "--lease", "2s", "--demo")
	harkproc.Ready(t, url)
	if ahead := time.Until(clockOf(t, url)); ahead < 50*time.Minute {
		t.Fatalf("its clock is %v ahead, so this test tests nothing", ahead)
	}
	ana, bob := newClient(t, url, "ana"), newClient(t, url, "bob")
	enqueue := func(c *client.Client, params string, attempts int) string {
		t.Helper()
		job, err := c.Enqueue(t.Context(), client.Request{Kind: "sleep", Params: json.RawMessage(params), MaxAttempts: attempts})
		if err != nil {
			t.Fatal(err)
		}
		return job.ID
	}
	retried := enqueue(ana, `{"seconds":0,"fail":true}`, 100)
	awaitJob(t, ana, retried, "retrying", func(j jobs.Job) bool { return j.State == jobs.Retrying && j.Attempt >= 2 })
	running := enqueue(ana, `{"seconds":3}`, 1)
	awaitState(t, ana, running, jobs.Running)
	var waiting []string // more than the half of the worker's slots that is bob's
	for range 40 {
		waiting = append(waiting, enqueue(bob, `{"seconds":0.5}`, 1))
	}
	before := awaitState(t, ana, retried, jobs.Retrying)

	p.Kill()
	p.Unshift()
	p.Restart()
	harkproc.Ready(t, url)
	if ahead := time.Until(clockOf(t, url)); ahead > 10*time.Minute {
		t.Fatalf("its clock is still %v ahead", ahead)
	}
	awaitJob(t, ana, retried, "tried again", func(j jobs.Job) bool { return j.Attempt > before.Attempt })
	awaitState(t, ana, running, jobs.Succeeded)
	for _, id := range waiting {
		awaitState(t, bob, id, jobs.Succeeded)
	}
	awaitInbox(t, ana, 1)
}

// clockOf returns the time that a hark says it is.
func clockOf(t *testing.T, url string) time.Time {
	t.Helper()
	res, err := http.Get(url + "/livez")
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	now, err := http.ParseTime(res.Header.Get("Date"))
	if err != nil {
		t.Fatal(err)
	}
	return now
}
