package e2e_test

import (
	"encoding/json"
	"fmt"
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
	await := func(c *client.Client, id, what string, ok func(jobs.Job) bool) jobs.Job {
		t.Helper()
		for end := time.Now().Add(2 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
			job, err := c.Job(t.Context(), id)
			if err == nil && ok(job) {
				return job
			}
			if time.Now().After(end) {
				t.Fatalf("not %s after two minutes: %+v, %v", what, job, err)
			}
		}
	}
	in := func(state jobs.State) func(jobs.Job) bool { return func(j jobs.Job) bool { return j.State == state } }
	retried := enqueue(ana, `{"seconds":0,"fail":true}`, 100)
	await(ana, retried, "retrying", func(j jobs.Job) bool { return j.State == jobs.Retrying && j.Attempt >= 2 })
	running := enqueue(ana, `{"seconds":3}`, 1)
	await(ana, running, "running", in(jobs.Running))
	var waiting []string // more than the half of the worker's slots that is bob's
	for range 40 {
		waiting = append(waiting, enqueue(bob, `{"seconds":0.5}`, 1))
	}
	before := await(ana, retried, "retrying", in(jobs.Retrying))

	p.Kill()
	p.Unshift()
	p.Restart()
	harkproc.Ready(t, url)
	if ahead := time.Until(clockOf(t, url)); ahead > 10*time.Minute {
		t.Fatalf("its clock is still %v ahead", ahead)
	}
	await(ana, retried, "tried again", func(j jobs.Job) bool { return j.Attempt > before.Attempt })
	await(ana, running, "run again", in(jobs.Succeeded))
	for i, id := range waiting {
		await(bob, id, fmt.Sprintf("run: number %d", i), in(jobs.Succeeded))
	}
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(50 * time.Millisecond) {
		page, err := ana.NotificationPage(t.Context(), client.NotificationsQuery{})
		if err == nil && len(page.Notifications) > 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("the inbox has nothing after two minutes: %v", err)
		}
	}
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
