// Package hark is the whole server in a Go program: jobs, notifications, event streams and the inbox, with NATS and SQLite
// inside, or on NATS servers and a database elsewhere.
//
//	srv, err := hark.New(ctx, hark.Options{NATS: nc, Inbox: store, Auth: login, Handlers: handlers})
//	if err != nil {
//		return err
//	}
//	srv.Register(router.Group("/internal/hark")) // on the program's own Gin router
//	return srv.Run(ctx)
//
// Command hark (cmd/hark) and package harktest are built on this package and the other public ones. [Setup], [Backup] and [Restore]
// are for what it has in NATS.
//
//	         ┌───────────────────────────────── one process ────────────────────────────────────┐
//	browser ─┼▶ HTTP ─▶ notifier ─┬─▶ joblog ────▶ NATS JetStream ◀─── joblog ◀─── worker ─▶ handlers
//	         │    ▲               │                  │   │                            (export, sleep, yours)
//	         │    └─── sse.Hub ◀──┼── hark.live.…> ──┘   │
//	         │                    └─▶ inbox.Store ◀── inbox.Ingester
//	         │                         (SQLite | PostgreSQL)
//	         └──────────────────────────────────────────────────────────────────────────────────┘
//
// Parts stop in the reverse order of their start: no new jobs are accepted, running jobs end or are requeued, the streams end
// with bye, HTTP ends, and then NATS and the databases.
package hark

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hark-jobs/hark/internal/door"
	"github.com/hark-jobs/hark/internal/health"
)

// Server is hark in this process. [New] makes one. Its methods are safe for concurrent use.
//
// It is a [prometheus.Collector] of its own metrics, and registers them nowhere itself. It changes nothing global: neither
// Gin's mode nor a default registry or logger, and it handles no signals.
type Server struct {
	options Options
	log     *slog.Logger
	parts
	meters []prometheus.Collector
	stops  []func(context.Context) // in the order of starting
	failed chan error
	ready  chan struct{}
	phase  atomic.Int32 // of the notifier
	close  sync.Once
}

// phase is what the notifier does.
type phase int32

const (
	starting phase = iota
	serving
	ended
)

// New makes a server of the options and opens what it needs. It blocks until the NATS servers are reachable, or ctx ends; ctx
// has no meaning for the server afterwards. Jobs are run and requests answered from [Server.Run] on, except the health checks
// at [Options].Listen, which answer while New waits. If New fails, it closes what it has opened. A mistake in the options is
// an [*Error].
func New(ctx context.Context, options Options) (_ *Server, err error) {
	if err := options.defaults(); err != nil {
		return nil, err
	}
	s := &Server{options: options, log: options.Logger, failed: make(chan error, 16), ready: make(chan struct{})}
	s.health = health.New(s.log, options.Version)
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	// Checks of the options come first, and waits come last.
	steps := []func(context.Context) error{s.openCertificate, s.lockData, s.serveAdmin}
	if options.notifies() {
		steps = append(steps, s.openAuth, s.openInbox)
	}
	if options.works() {
		steps = append(steps, s.openExporter)
	}
	steps = append(steps, s.listen, s.openNATS, s.openQueue, s.settleLog)
	if options.notifies() {
		steps = append(steps, s.openHub, s.openNotifier)
	}
	if options.works() {
		steps = append(steps, s.openWorker)
	}
	if err := s.do(ctx, steps); err != nil {
		return nil, err
	}
	return s, nil
}

// Run runs the server until ctx ends, or a part of it fails, and closes it. It returns nil if ctx ended, and otherwise the
// error of that part. Closing begins after [Options].DrainDelay, and each step of it takes [Options].Drain at most. Run must be called once at most.
func (s *Server) Run(ctx context.Context) error {
	defer s.Close()
	var steps []func(context.Context) error
	if s.options.notifies() {
		steps = append(steps, s.runIngester, s.runRetention, s.endHTTPOnStop, s.runHub)
	}
	if s.options.works() {
		steps = append(steps, s.runWorker)
	}
	if err := s.do(ctx, append(steps, s.drainOnStop)); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	close(s.ready)
	select {
	case err := <-s.failed:
		return err
	case <-ctx.Done():
		return s.delayDrain()
	}
}

// delayDrain keeps the server working for Options.DrainDelay, while its readiness check says that it stops. It returns the error of a part
// that fails meanwhile.
func (s *Server) delayDrain() error {
	if s.options.DrainDelay == 0 {
		return nil
	}
	s.health.Stopping()
	s.log.Info("not ready any more; stopping soon", "in", s.options.DrainDelay)
	delay := time.NewTimer(s.options.DrainDelay)
	defer delay.Stop()
	select {
	case err := <-s.failed:
		return err
	case <-delay.C:
		return nil
	}
}

// Serve runs the server as [Server.Run] does, and answers HTTP on l with handler, until ctx ends or one of the two fails. It is for
// programs with a router of their own and no HTTP server. When ctx ends, the streams end first, since
// [http.Server.Shutdown] would wait for them, and then the requests, which have [Options].Drain. l is closed. Options.Deadlines
// are those of the HTTP server, except for that of a response, which handlers have to set. It returns nil if ctx ended, and otherwise
// the error. It must be called once at most, in place of Run.
func (s *Server) Serve(ctx context.Context, l net.Listener, handler http.Handler) error {
	deadlines := door.Deadlines(s.options.Deadlines)
	server := door.NewServer(door.Options{Handler: handler, Deadlines: deadlines, Logger: s.log})
	server.WriteTimeout = 0
	go func() {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			s.fail(fmt.Errorf("hark: http: %w", err))
		}
	}()
	failed := s.Run(ctx)
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.options.Drain)
	defer cancel()
	if err := server.Shutdown(last); err != nil {
		s.log.Warn("requests cut off", "err", err)
		server.Close()
	}
	return failed
}

// do takes steps until one fails.
func (s *Server) do(ctx context.Context, steps []func(context.Context) error) error {
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return s.orFullDisk(err)
		}
	}
	return nil
}

// Ready returns a channel that [Server.Run] closes when all parts run.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// Close closes what [New] has opened, in order, and blocks until it is done. It is for a server that is never run:
// [Server.Run] closes the server when it ends. Close may be called more than once.
func (s *Server) Close() {
	s.close.Do(func() {
		for i := len(s.stops) - 1; i >= 0; i-- {
			ctx, cancel := context.WithTimeout(context.Background(), s.options.Drain)
			s.stops[i](ctx)
			cancel()
		}
	})
}

func (s *Server) onStop(f func(context.Context)) { s.stops = append(s.stops, f) }

// fail makes Run return err. Only the first few errors are kept.
func (s *Server) fail(err error) {
	select {
	case s.failed <- err:
	default:
	}
}

// run runs a part until Close ends it.
func (s *Server) run(name string, part func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		err := part(ctx)
		if ctx.Err() == nil { // it ended by itself
			if err == nil {
				err = errors.New("hark: part " + name + " ended without a reason")
			}
			s.fail(err)
		}
		if err != nil {
			s.log.Error("part ended", "part", name, "err", err)
		}
	}()
	s.onStop(func(context.Context) {
		begin := time.Now()
		cancel()
		<-ended
		s.log.Debug("part stopped", "part", name, "took", time.Since(begin))
	})
}
