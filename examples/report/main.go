// Command report is a worker with a kind of its own, beside a running hark:
//
//	hark serve --nats-listen localhost:4222
//	go run ./examples/report
//
// Then the page has a form for it, and curl can ask for it:
//
//	curl localhost:4280/v1/jobs -H "Authorization: Bearer $(hark token --user ana)" -d '{"kind":"report","params":{"pages":20}}'
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/queue"
	"github.com/hark-jobs/hark/worker"
	"github.com/nats-io/nats.go"
)

// Params are what a job takes. Fields without omitempty are required.
type Params struct {
	Pages int  `json:"pages"`
	Draft bool `json:"draft,omitempty"`
}

// Report is the kind. A program that enqueues reports imports the same definition.
var Report = jobs.Define[Params](jobs.Kind{Name: "report", Title: "Report", MaxAttempts: 5})

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) error {
	nc, err := nats.Connect("nats://localhost:4222", nats.MaxReconnects(-1))
	if err != nil {
		return err
	}
	defer nc.Close()
	q, err := queue.Open(ctx, nc, queue.Options{})
	if err != nil {
		return err
	}
	defer q.Close()
	w, err := worker.New(worker.Options{Queue: q, Handlers: []worker.Handler{
		worker.Handle(Report, report, worker.Timeout(10*time.Minute)),
	}})
	if err != nil {
		return err
	}
	return w.Run(ctx)
}

func report(ctx context.Context, job *worker.Job, p Params) (jobs.Result, error) {
	err := job.WriteFile(ctx, "report.txt", "text/plain", func(w io.Writer) error {
		for page := range p.Pages {
			job.Progress(int64(page), int64(p.Pages), "Printing")
			select {
			case <-ctx.Done(): // cancelled, or the worker stops
				return context.Cause(ctx)
			case <-time.After(100 * time.Millisecond):
			}
			if _, err := fmt.Fprintf(w, "Page %d of %d for %s\n", page+1, p.Pages, job.User); err != nil {
				return err
			}
		}
		return nil
	})
	return jobs.Result{Summary: fmt.Sprintf("%d pages", p.Pages)}, err
}
