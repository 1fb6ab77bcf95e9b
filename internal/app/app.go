// Package app puts the parts of hark together: all of them in one process, or some.
//
//	         ┌────────────────────────── one process with hark serve ───────────────────────────┐
//	browser ─┼▶ HTTP ─▶ notifier ─┬─▶ jobs.Queue ─▶ NATS JetStream ◀─ jobs.Queue ◀─ worker ─▶ handlers
//	         │    ▲               │                  │   │                            (export, sleep, yours)
//	         │    └─── sse.Hub ◀──┼── live.<user>.> ─┘   │
//	         │                    └─▶ inbox.Store ◀── inbox.Filler
//	         │                         (SQLite | PostgreSQL)
//	         └──────────────────────────────────────────────────────────────────────────────────┘
//
// Parts start from the inside out, and stop in the reverse order of how they are listed in [Start]: first no
// new jobs are taken, then running ones end or are handed back, the streams say bye, HTTP ends, and what all
// of it stands on.
package app

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/hark-jobs/hark/internal/health"
)

// App is a running hark.
type App struct {
	config Config
	log    *slog.Logger
	parts
	stops  []func(context.Context) // in the order of starting
	failed chan error
	once   sync.Once
}

// Start starts the parts that config asks for and returns when all are ready. The health checks answer meanwhile. It waits
// for NATS servers elsewhere for as long as ctx lasts. If a part fails, those before it are stopped again. A mistake in
// config is a [*UserError].
func Start(ctx context.Context, config Config) (_ *App, err error) {
	if err := config.defaults(); err != nil {
		return nil, err
	}
	a := &App{config: config, log: config.Log, failed: make(chan error, 16)}
	a.health = health.New(config.Log, config.Version)
	a.run("memory", giveMemoryBack)
	defer func() {
		if err != nil {
			a.Stop()
		}
	}()
	// What can be wrong with the config comes first, and what may have to be waited for comes last.
	steps := []func(context.Context) error{a.lockData, a.serveAdmin}
	if config.Notifier {
		steps = append(steps, a.openAuth, a.openInbox)
	}
	if config.Worker {
		steps = append(steps, a.openExporter)
	}
	steps = append(steps, a.listen, a.openNATS, a.openQueue)
	if config.Notifier {
		steps = append(steps, a.runFiller, a.runRetention, a.openHub, a.openNotifier, a.runHub)
	}
	if config.Worker {
		steps = append(steps, a.runWorker)
	}
	steps = append(steps, a.takeJobs)
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	return a, nil
}

// Failed yields the error of a part that ended by itself. The others go on, crippled; the program had
// better stop.
func (a *App) Failed() <-chan error { return a.failed }

// fail makes the program end with err. Only the first few are kept.
func (a *App) fail(err error) {
	select {
	case a.failed <- err:
	default:
	}
}

// Stop stops everything in order and blocks until it is done. It may be called more than once.
func (a *App) Stop() {
	a.once.Do(func() {
		for i := len(a.stops) - 1; i >= 0; i-- {
			ctx, cancel := context.WithTimeout(context.Background(), a.config.Drain)
			a.stops[i](ctx)
			cancel()
		}
	})
}

func (a *App) onStop(f func(context.Context)) { a.stops = append(a.stops, f) }

// run runs a part until its turn to stop comes.
func (a *App) run(name string, part func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		err := part(ctx)
		if ctx.Err() == nil { // nobody told it to end
			if err == nil {
				err = errors.New("ended without a reason")
			}
			a.fail(err)
		}
		if err != nil {
			a.log.Error("part ended", "part", name, "err", err)
		}
	}()
	a.onStop(func(context.Context) {
		begin := time.Now()
		cancel()
		<-ended
		a.log.Debug("part stopped", "part", name, "took", time.Since(begin))
	})
}
