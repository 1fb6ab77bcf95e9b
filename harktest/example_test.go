package harktest_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/hark-jobs/hark/client"
	"github.com/hark-jobs/hark/harktest"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/worker"
)

type reportParams struct {
	Pages int `json:"pages"`
}

var report = jobs.Define[reportParams](jobs.Kind{Name: "report", Title: "Report"})

func writeReport(_ context.Context, _ *worker.Job, p reportParams) (jobs.Result, error) {
	return jobs.Result{Summary: fmt.Sprintf("%d pages", p.Pages)}, nil
}

// Test a handler with the whole system: enqueue over HTTP as a user, wait for the end, and look at it over NATS.
func Example() {
	// TestReport is a function of a file whose name ends with _test.go.
	TestReport := func(t *testing.T) {
		hark := harktest.Start(t, harktest.Handlers(worker.Handle(report, writeReport)))
		c, err := client.New(client.Options{URL: hark.URL, Token: hark.Token("ana")})
		if err != nil {
			t.Fatal(err)
		}
		job, err := client.Enqueue(t.Context(), c, report, reportParams{Pages: 20}, client.Wait(time.Minute))
		if err != nil || job.State != jobs.Succeeded {
			t.Fatalf("got %s, %v; want succeeded", job.State, err)
		}
		if seen, err := hark.Queue.Get(t.Context(), "ana", job.ID); err != nil || seen.State != jobs.Succeeded {
			t.Errorf("got %s, %v; want succeeded", seen.State, err)
		}
	}
	_ = TestReport
}

// Test what a user sees of a job: its notification on an open stream, and in the inbox.
func ExampleHark_Stream() {
	TestOrder := func(t *testing.T) {
		hark := harktest.Start(t, harktest.Handlers(worker.Handle(report, writeReport)))
		stream := hark.Stream("ana")
		job := harktest.Run(hark, report, "ana", reportParams{Pages: 20})
		if n := stream.Notification(); n.JobID != job.ID || n.Body != "20 pages" {
			t.Errorf("got %q of job %s", n.Body, n.JobID)
		}
		if n := len(hark.Notifications("ana")); n != 1 {
			t.Errorf("the inbox has %d notifications, want 1", n)
		}
	}
	_ = TestOrder
}
