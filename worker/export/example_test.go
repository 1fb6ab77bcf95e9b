package export_test

import (
	"context"

	"github.com/hark-jobs/hark/queue"
	"github.com/hark-jobs/hark/worker"
	"github.com/hark-jobs/hark/worker/export"
)

// A worker of a program that runs the kind export, besides its own.
func ExampleOpen() {
	work := func(ctx context.Context, q *queue.Client, own worker.Handler) error {
		config, err := export.Load("hark.yaml")
		if err != nil {
			return err
		}
		exporter, err := export.Open(config)
		if err != nil {
			return err
		}
		defer exporter.Close()
		w, err := worker.New(worker.Options{Queue: q, Handlers: []worker.Handler{own, exporter.Handler(worker.Concurrency(4))}})
		if err != nil {
			return err
		}
		return w.Run(ctx)
	}
	_ = work
}
