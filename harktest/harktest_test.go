package harktest_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/hark-jobs/hark/harktest"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/queue"
	"github.com/hark-jobs/hark/worker"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// What an application's test does: ask for a job, and hear of its end.
func TestStart(t *testing.T) {
	hark := harktest.Start(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	call := func(method, path, body string) *http.Response {
		t.Helper()
		req, err := http.NewRequestWithContext(ctx, method, hark.URL+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+hark.Token("ana"))
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { res.Body.Close(); http.DefaultClient.CloseIdleConnections() })
		return res
	}
	stream := bufio.NewScanner(call("GET", "/v1/stream", "").Body)
	res := call("POST", "/v1/jobs", `{"kind":"sleep","params":{"seconds":0.1},"title":"Nap"}`)
	if res.StatusCode != http.StatusAccepted {
		body, _ := io.ReadAll(res.Body)
		t.Fatal(res.Status, string(body))
	}
	var event string
	for stream.Scan() {
		name, value, _ := strings.Cut(stream.Text(), ": ")
		if name == "event" {
			event = value
		}
		if name == "data" && event == "notification" {
			var n jobs.Notification
			if err := json.Unmarshal([]byte(value), &n); err != nil {
				t.Fatal(err)
			}
			if n.Type != "job.succeeded" || n.Title != "Nap is done" || n.ID == "" {
				t.Errorf("%+v", n)
			}
			return
		}
	}
	t.Fatal("the stream ended", stream.Err())
}

// The helpers run a job to its end, read the stream that it caused, and list the inbox.
func TestHelpers(t *testing.T) {
	hark := harktest.Start(t, harktest.Handlers(worker.Handle(report, writeReport)))
	stream := hark.Stream("ana")
	job := harktest.Run(hark, report, "ana", reportParams{Pages: 3}, queue.Title("Sales"))
	if job.State != jobs.Succeeded || job.Title != "Sales" {
		t.Errorf("got %s, %s; want Sales to have succeeded", job.Title, job.State)
	}
	if n := stream.Notification(); n.JobID != job.ID || n.Body != "3 pages" {
		t.Errorf("got a notification of %s, %q; want one of %s, 3 pages", n.JobID, n.Body, job.ID)
	}
	service := hark.Client("shop", "notify")
	for _, title := range []string{"First", "Second"} {
		if _, err := service.Notify(t.Context(), "ana", jobs.Notification{Type: "shop", Title: title}); err != nil {
			t.Fatal(err)
		}
	}
	var titles []string
	for _, n := range hark.Notifications("ana") {
		titles = append(titles, n.Title)
	}
	if want := []string{"Second", "First", "Sales is done"}; !slices.Equal(titles, want) {
		t.Errorf("the inbox has %q, want %q", titles, want)
	}
	if got := hark.Notifications("bob"); len(got) > 0 {
		t.Errorf("bob's inbox has %+v, want nothing", got)
	}
}

// A job that fails ends the wait as one that succeeds.
func TestRunFails(t *testing.T) {
	hark := harktest.Start(t, harktest.Handlers(worker.Handle(report, func(context.Context, *worker.Job, reportParams) (jobs.Result, error) {
		return jobs.Result{}, worker.Fail(errors.New("no paper"))
	})))
	if job := harktest.Run(hark, report, "ana", reportParams{Pages: 3}); job.State != jobs.Failed {
		t.Errorf("got %s, want failed", job.State)
	}
}
