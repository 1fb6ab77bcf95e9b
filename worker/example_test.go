package worker_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os/signal"
	"syscall"
	"time"

	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/queue"
	"github.com/hark-jobs/hark/worker"
	"github.com/nats-io/nats.go"
)

type ReportParams struct {
	Pages int `json:"pages"`
}

// Report is the kind that the examples handle.
var Report = jobs.Define[ReportParams](jobs.Kind{Name: "report", Title: "Report", MaxAttempts: 5})

// Run a worker with one kind until the program is stopped.
func Example() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
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
	w, err := worker.New(worker.Options{Queue: q, Handlers: []worker.Handler{
		worker.Handle(Report, writeReport, worker.Concurrency(4), worker.Timeout(10*time.Minute)),
	}})
	if err != nil {
		log.Fatal(err)
	}
	if err := w.Run(ctx); err != nil {
		log.Fatal(err)
	}
}

// writeReport writes a file, reports its progress, and stops when its context ends.
func writeReport(ctx context.Context, job *worker.Job, p ReportParams) (jobs.Result, error) {
	err := job.WriteFile(ctx, "report.txt", "text/plain", func(w io.Writer) error {
		for page := range p.Pages {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			job.Progress(int64(page), int64(p.Pages), "Printing")
			if _, err := fmt.Fprintf(w, "Page %d\n", page+1); err != nil {
				return err
			}
		}
		return nil
	})
	return jobs.Result{Summary: fmt.Sprintf("%d pages", p.Pages)}, err
}

var (
	errNoSuchCustomer = errors.New("no such customer")
	errNotYet         = errors.New("the figures are not there yet")
)

// The error of a handler decides what becomes of the job: most are retried, some are final, and some only mean later.
func ExampleHandle() {
	worker.Handle(Report, func(ctx context.Context, job *worker.Job, p ReportParams) (jobs.Result, error) {
		result, err := writeReport(ctx, job, p)
		switch {
		case errors.Is(err, errNoSuchCustomer):
			err = worker.Fail(err) // Another attempt would fail, too.
		case errors.Is(err, errNotYet):
			err = worker.Snooze(time.Minute) // It does not count as an attempt.
		}
		return result, err
	})
}

// A middleware sees each attempt of each kind.
func ExampleMiddleware() {
	timed := func(next worker.Func) worker.Func {
		return func(ctx context.Context, job *worker.Job) (jobs.Result, error) {
			began := time.Now()
			result, err := next(ctx, job)
			log.Printf("%s took %v: %v", job.ID, time.Since(began), err)
			return result, err
		}
	}
	_, err := worker.New(worker.Options{Queue: connected(), Middleware: []worker.Middleware{timed}, Handlers: []worker.Handler{
		worker.Handle(Report, writeReport),
	}})
	if err != nil {
		log.Fatal(err)
	}
}

// connected returns a client of the NATS server on this machine.
func connected() *queue.Client {
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
