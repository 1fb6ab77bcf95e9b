// Command service is a program of a company that has hark: it enqueues a report for a user, follows it to the end, and tells the
// user what comes next. It reaches hark over HTTP or over NATS, and does the same either way.
//
//	hark serve --nats-listen localhost:4222
//	go run ./examples/report
//
//	export HARK_TOKEN=$(hark token --user reports --scope "enqueue notify")
//	go run ./examples/service --over http --user ana
//	go run ./examples/service --over nats --user ana
//
// Over HTTP the token says what the program may do: enqueue for others, follow these jobs, and notify. Over NATS a program
// that may connect may do everything; it says its own name, so that its runs over HTTP find the jobs. Ana's page shows the report and both notifications: that of hark and that of this program.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"syscall"

	"github.com/hark-jobs/hark/client"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/queue"
	"github.com/nats-io/nats.go"
)

// Params are what a report takes.
type Params struct {
	Pages int  `json:"pages"`
	Draft bool `json:"draft,omitempty"`
}

// Report is the kind, as the worker in examples/report has it. In one repository both programs import one definition.
var Report = jobs.Define[Params](jobs.Kind{Name: "report", Title: "Report", MaxAttempts: 5})

// name is the user of this program's token.
const name = "reports"

// order is the report to make. Its number makes it safe to run the program again: there is one job for an order, and one
// notification.
type order struct {
	number, user string
	pages        int
}

func main() {
	over := flag.String("over", "http", "How to reach hark: http or nats.")
	harkURL := flag.String("hark", "http://localhost:4280", "Where hark serves HTTP.")
	natsURL := flag.String("nats", "nats://localhost:4222", "Where its NATS server is.")
	var o order
	flag.StringVar(&o.number, "order", "4711", "The number of the order.")
	flag.StringVar(&o.user, "user", "ana", "The user that the report is for.")
	flag.IntVar(&o.pages, "pages", 20, "How many pages it has.")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	switch *over {
	case "http":
		err = overHTTP(ctx, *harkURL, os.Getenv("HARK_TOKEN"), o)
	case "nats":
		err = overNATS(ctx, *natsURL, o)
	default:
		err = fmt.Errorf("--over must be http or nats, not %q", *over)
	}
	if err != nil {
		log.Fatal(err)
	}
}

// overHTTP makes the report through package client.
func overHTTP(ctx context.Context, url, token string, o order) error {
	c, err := client.New(client.Options{URL: url, Token: token})
	if err != nil {
		return err
	}
	job, err := client.Enqueue(ctx, c, Report, Params{Pages: o.pages}, client.User(o.user), client.IdempotencyKey("order "+o.number))
	if err != nil {
		return err
	}
	job, err = c.Follow(ctx, job, client.FollowOptions{OnJob: show, OnTrouble: func(err error) {
		if err != nil {
			log.Print(err) // Follow goes on by itself.
		}
	}})
	if err != nil {
		return err
	}
	n, err := c.Notify(ctx, o.user, o.notification(job))
	if err != nil {
		return err
	}
	fmt.Println("notified:", n.Title)
	return nil
}

// overNATS makes the report through package queue.
func overNATS(ctx context.Context, url string, o order) error {
	nc, err := nats.Connect(url, nats.MaxReconnects(-1))
	if err != nil {
		return err
	}
	defer nc.Close()
	q, err := queue.Open(ctx, nc, queue.Options{})
	if err != nil {
		return err
	}
	defer q.Close()
	job, err := queue.Enqueue(ctx, q, Report, o.user, Params{Pages: o.pages}, queue.IdempotencyKey("order "+o.number), queue.EnqueuedBy(name))
	if err != nil {
		return err
	}
	for changed, err := range q.Follow(ctx, o.user, job.ID) {
		if err != nil {
			return err
		}
		job = changed
		show(job)
	}
	n, err := q.Notify(ctx, o.user, o.notification(job))
	if err != nil {
		return err
	}
	fmt.Println("notified:", n.Title)
	return nil
}

// notification is what the user hears from this program, besides what hark says of the job.
func (o order) notification(job jobs.Job) jobs.Notification {
	n := jobs.Notification{Type: "order.checked", Title: "Order " + o.number + " is on its way", Link: "/orders/" + o.number, Key: "order " + o.number}
	if job.State != jobs.Succeeded {
		n.Type, n.Title = "order.delayed", "Order "+o.number+" takes longer"
	}
	return n
}

func show(job jobs.Job) {
	fmt.Printf("%s: %d of %d %s\n", job.State, job.Progress.Done, job.Progress.Total, job.Progress.Message)
}
