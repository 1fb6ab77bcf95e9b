package hark

import (
	"context"
	"path/filepath"
	"slices"
	"time"

	"github.com/hark-jobs/hark/internal/health"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/worker"
	"github.com/hark-jobs/hark/worker/export"
)

// openWorker makes the worker.
func (s *Server) openWorker(context.Context) (err error) {
	if s.copied {
		return nil // what a job does could not be stored
	}
	o := &s.options
	handlers := slices.Clone(o.Handlers)
	if s.exporter != nil {
		handlers = append(handlers, s.exporter.Handler(append(slices.Clone(o.Export.Options), worker.Timeout(o.Export.Timeout))...))
	}
	meter := newJobMeter()
	s.meter(meter)
	observers := observers{meter}
	if o.Observer != nil {
		observers = append(observers, o.Observer)
	}
	s.worker, err = worker.New(worker.Options{
		Queue: s.Queue(), Handlers: handlers, Middleware: o.Middleware, Grace: o.Drain, Observer: observers, Logger: s.log,
	})
	return err
}

// observers is all of them, as one.
type observers []worker.Observer

// Started implements [worker.Observer].
func (all observers) Started(job *jobs.Job) {
	for _, o := range all {
		o.Started(job)
	}
}

// Ended implements [worker.Observer].
func (all observers) Ended(job *jobs.Job, end worker.End) {
	for _, o := range all {
		o.Ended(job, end)
	}
}

// runWorker runs the worker and waits until it fetches jobs.
func (s *Server) runWorker(ctx context.Context) error {
	w := s.worker
	if w == nil {
		return nil
	}
	if s.options.Files != nil {
		s.run("files", s.expireFiles)
	}
	stores := true
	if err := s.wait(ctx, "the kinds in NATS", w.PublishKinds); err != nil && (ctx.Err() != nil || s.natsd == nil) {
		return err
	} else if err != nil { // the disk may be full; what is there is served all the same
		s.log.Warn("publishing the kinds failed; no jobs are fetched until it succeeds; retrying", "err", err)
		stores = false
	}
	s.health.Add(health.Check{Part: "worker", Check: func(context.Context) error { return w.Ready() }})
	s.run("worker", w.Run)
	for stores && w.Ready() != nil { // the worker itself logs why it has to wait
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
	}
	return nil
}

// expirePeriod is how often files that have expired are deleted.
const expirePeriod = time.Hour

// expireFiles deletes files that have expired, in a store that does not do so by itself.
func (s *Server) expireFiles(ctx context.Context) error {
	for {
		if err := s.store.ExpireFiles(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("deleting expired files failed; retrying in an hour", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(expirePeriod):
		}
	}
}

// openExporter reads the config of the exports before any wait, so that an invalid config ends the start at once.
func (s *Server) openExporter(context.Context) error {
	o := &s.options.Export
	if !o.isSet() || s.copied {
		return nil
	}
	var config *export.Config
	var err error
	if o.Config != "" {
		config, err = export.Load(o.Config)
	} else {
		config, err = export.SampleConfig(filepath.Join(s.options.Data, "sample"))
	}
	if err != nil {
		return &Error{Code: "config_invalid", Message: err.Error()}
	}
	config.StatementTimeout = o.Timeout
	exporter, err := export.Open(config)
	if err != nil {
		return err
	}
	s.exporter = exporter
	if s.options.notifies() && !s.options.noKey() || !s.options.notifies() && o.Config != "" {
		for _, name := range config.Unguarded() {
			s.log.Warn("every user who is signed in may export all of a dataset: it has no allow, and its query binds no identity", "dataset", name)
		}
	}
	// The sample shop is made meanwhile; an export that comes sooner waits for it.
	s.run("exporter", func(ctx context.Context) error {
		if err := exporter.Prepare(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("making the sample data failed; the first export retries", "err", err)
		}
		<-ctx.Done()
		return exporter.Close()
	})
	return nil
}
