package client_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"time"

	"github.com/hark-jobs/hark/client"
	"github.com/hark-jobs/hark/jobs"
)

type ExportParams struct {
	Year int `json:"year"`
}

// Export is the kind that the examples enqueue.
var Export = jobs.Define[ExportParams](jobs.Kind{Name: "yearly-export", Title: "Yearly export"})

// Enqueue a job, follow it to its end, and download its file.
func Example() {
	ctx := context.Background()
	c, err := client.New(client.Options{URL: "https://hark.example.com", Token: os.Getenv("HARK_TOKEN")})
	if err != nil {
		log.Fatal(err)
	}
	job, err := client.Enqueue(ctx, c, Export, ExportParams{Year: 2026})
	if err != nil {
		log.Fatal(err)
	}
	job, err = c.Follow(ctx, job, client.FollowOptions{OnJob: func(job jobs.Job) {
		fmt.Println(job.State, job.Progress.Done, "of", job.Progress.Total)
	}})
	if err != nil {
		log.Fatal(err)
	}
	if job.File == nil {
		log.Fatalf("the job has %s without a file", job.State)
	}
	file, err := os.Create("export.xlsx")
	if err != nil {
		log.Fatal(err)
	}
	if _, err := c.Download(ctx, job.ID, file); err != nil {
		log.Fatal(err)
	}
	if err := file.Close(); err != nil {
		log.Fatal(err)
	}
}

// A service enqueues for a user, with a token that has the scope enqueue. The key makes it safe to repeat the call.
func ExampleEnqueue() {
	ctx := context.Background()
	c, err := client.New(client.Options{URL: "https://hark.example.com", Token: os.Getenv("HARK_TOKEN")})
	if err != nil {
		log.Fatal(err)
	}
	for {
		job, err := client.Enqueue(ctx, c, Export, ExportParams{Year: 2026},
			client.User("ana"),
			client.IdempotencyKey("export of 2026"),
			client.Metadata(map[string]string{"tenant": "acme"}))
		if client.Temporary(err) {
			time.Sleep(time.Second)
			continue
		}
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(job.ID)
		return
	}
}

// Print the events of the user of the token, for ever: the stream reconnects by itself.
func ExampleClient_Stream() {
	c, err := client.New(client.Options{URL: "https://hark.example.com", Token: os.Getenv("HARK_TOKEN")})
	if err != nil {
		log.Fatal(err)
	}
	for event, err := range c.Stream(context.Background(), client.StreamOptions{}) {
		if err != nil {
			log.Fatal(err) // such as a token that has expired
		}
		switch event.Type {
		case client.EventNotification:
			if n, err := event.Notification(); err == nil {
				fmt.Println(n.Title)
			}
		case client.EventJob:
			if job, err := event.Job(); err == nil {
				fmt.Println(job.Title, job.State)
			}
		case client.EventReset:
			fmt.Println("some events are gone; list jobs and notifications again")
		}
	}
}

// Send several notifications in one call, with a token that has the scope notify.
func ExampleClient_NotifyAll() {
	c, err := client.New(client.Options{URL: "https://hark.example.com", Token: os.Getenv("HARK_TOKEN")})
	if err != nil {
		log.Fatal(err)
	}
	_, err = c.NotifyAll(context.Background(), []jobs.Addressed{
		{User: "ana", Notification: jobs.Notification{Type: "invoice.paid", Title: "Invoice 7 is paid", Key: "invoice 7"}},
		{User: jobs.Everyone, Notification: jobs.Notification{Type: "maintenance", Title: "Reports are slow tonight"}},
	})
	if failed := new(jobs.BatchError); errors.As(err, &failed) {
		log.Fatalf("number %d was refused: %v", failed.Index, failed.Err)
	}
	if err != nil {
		log.Fatal(err)
	}
}

// A refusal is a problem with a stable code, and the error of package jobs that the code stands for.
func ExampleProblem() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, `{"code":"job_not_found","detail":"Job not found."}`)
	}))
	defer server.Close()
	c, err := client.New(client.Options{URL: server.URL})
	if err != nil {
		log.Fatal(err)
	}
	_, err = c.Job(context.Background(), "01JD0000000000000000000000")
	if problem := new(client.Problem); errors.As(err, &problem) {
		fmt.Println(problem.Code, problem.Status, client.Temporary(err))
	}
	fmt.Println(errors.Is(err, jobs.ErrNotFound))
	fmt.Println(err)
	// Output:
	// job_not_found 404 false
	// true
	// Job not found.
}
