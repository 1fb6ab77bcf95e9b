package queue_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/queue"
	"github.com/nats-io/nats.go"
)

type ReportParams struct {
	Pages int `json:"pages"`
}

// Report is the kind that the examples enqueue.
var Report = jobs.Define[ReportParams](jobs.Kind{Name: "report", Title: "Report"})

// Enqueue a job for a user and follow it to its end.
func Example() {
	ctx := context.Background()
	nc, err := nats.Connect("nats://localhost:4222", nats.MaxReconnects(-1))
	if err != nil {
		log.Fatal(err)
	}
	defer nc.Close()
	q, err := queue.Open(ctx, nc, queue.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer q.Close()
	job, err := queue.Enqueue(ctx, q, Report, "ana", ReportParams{Pages: 20}, queue.IdempotencyKey("report 7"))
	if err != nil {
		log.Fatal(err)
	}
	for changed, err := range q.Follow(ctx, "ana", job.ID) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(changed.State, changed.Progress.Done, "of", changed.Progress.Total)
	}
}

// Enqueue a job for each of several params in one call.
func ExampleEnqueueAll() {
	ctx, q := context.Background(), open()
	enqueued, err := queue.EnqueueAll(ctx, q, Report, "ana", []ReportParams{{Pages: 1}, {Pages: 2}, {Pages: 3}}, queue.Title("Chapter"))
	if failed := new(jobs.BatchError); errors.As(err, &failed) {
		log.Fatalf("number %d was refused: %v", failed.Index, failed.Err)
	}
	fmt.Println(len(enqueued), "jobs")
}

// Notify a user. The key makes it safe to repeat the call within ten minutes.
func ExampleClient_Notify() {
	ctx, q := context.Background(), open()
	n, err := q.Notify(ctx, "ana", jobs.Notification{Type: "invoice.paid", Title: "Invoice 7 is paid", Link: "/invoices/7", Key: "invoice 7"})
	if errors.Is(err, jobs.ErrKeyReused) {
		log.Fatal("the key was used for another notification")
	}
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(n.ID)
}

// Watch a user after the last event that the program has handled.
func ExampleClient_Watch() {
	ctx, q := context.Background(), open()
	var last jobs.Position // as the program has stored it
	for event, err := range q.Watch(ctx, "ana", last) {
		if errors.Is(err, queue.ErrReset) {
			log.Fatal("some events are gone; list the jobs and watch from now on")
		}
		if err != nil {
			log.Fatal(err)
		}
		switch {
		case event.Job != nil:
			fmt.Println(event.Job.Title, event.Job.State)
		case event.Notification != nil:
			fmt.Println(event.Notification.Title)
		}
		last = event.Position
	}
}

// open connects to NATS on this machine.
func open() *queue.Client {
	nc, err := nats.Connect("nats://localhost:4222")
	if err != nil {
		log.Fatal(err)
	}
	q, err := queue.Open(context.Background(), nc, queue.Options{})
	if err != nil {
		log.Fatal(err)
	}
	return q
}
