package app

import (
	"context"
	"path/filepath"
	"slices"
	"time"

	"github.com/hark-jobs/hark/internal/health"
	"github.com/hark-jobs/hark/worker"
	"github.com/hark-jobs/hark/worker/export"
)

func (a *App) runWorker(ctx context.Context) error {
	handlers := slices.Clone(a.config.Handlers)
	if a.config.Demo || !a.config.NoExport && a.config.ExportConfig == "" {
		handlers = append(handlers, worker.Sleep(a.slots("sleep")...))
	}
	if a.exporter != nil {
		handlers = append(handlers, a.exporter.Handler(append(a.slots("export"), worker.Timeout(a.config.ExportTimeout))...))
	}
	observer := newJobMeter()
	a.health.Register(observer)
	w, err := worker.New(worker.Options{Queue: a.queue, Handlers: handlers, Grace: a.config.Drain, Observer: observer, Log: a.log})
	if err != nil {
		return err
	}
	if err := a.wait(ctx, "the kinds in NATS", w.Kinds); err != nil {
		return err
	}
	a.health.Add(health.Check{Part: "worker", Check: func(context.Context) error { return w.Ready() }})
	a.run("worker", w.Run)
	for w.Ready() != nil { // the worker itself logs why it has to wait
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
	}
	return nil
}

// slots returns the option that --concurrency asks for, if it does.
func (a *App) slots(kind string) []worker.Option {
	if n := a.config.Concurrency[kind]; n > 0 {
		return []worker.Option{worker.Slots(n)}
	}
	return nil
}

// openExporter reads the config of the exports before anything is waited for: a mistake in it ends the start at once.
func (a *App) openExporter(context.Context) error {
	if a.config.NoExport {
		return nil
	}
	config, err := export.Load(a.config.ExportConfig)
	if a.config.ExportConfig == "" {
		config, err = export.SampleConfig(filepath.Join(a.config.Data, "sample"))
	}
	if err != nil {
		return &UserError{"config_invalid", err.Error()}
	}
	config.StatementTimeout = a.config.ExportTimeout
	exporter, err := export.Open(config)
	if err != nil {
		return err
	}
	a.exporter = exporter
	if a.config.Notifier && !a.config.naming() || !a.config.Notifier && a.config.ExportConfig != "" {
		for _, name := range config.Unguarded() {
			a.log.Warn("every user who is signed in may export all of a dataset: it has no allow, and its query binds no identity", "dataset", name)
		}
	}
	// The sample shop is made meanwhile; an export that comes sooner waits for it.
	a.run("exporter", func(ctx context.Context) error {
		if err := exporter.Prepare(ctx); err != nil && ctx.Err() == nil {
			a.log.Warn("sample data not made; the first export tries again", "err", err)
		}
		<-ctx.Done()
		return exporter.Close()
	})
	return nil
}
