package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"syscall"

	"github.com/hark-jobs/hark/internal/door"
	"github.com/hark-jobs/hark/internal/health"
	"github.com/hark-jobs/hark/notifier"
	"github.com/hark-jobs/hark/notifier/auth"
	"github.com/hark-jobs/hark/notifier/sse"
)

// front answers HTTP from the first moment of the process: the health checks always, and all else once there is a
// notifier to do it.
type front struct {
	health   http.Handler
	metrics  http.Handler // nil if they are on a listener of their own
	listener net.Listener
	server   *http.Server
	notifier atomic.Pointer[notifier.Notifier]
	other    http.Handler // without a notifier
}

func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == health.Live || r.URL.Path == health.Ready {
		f.health.ServeHTTP(w, r)
	} else if r.URL.Path == health.Metrics && f.metrics != nil {
		f.metrics.ServeHTTP(w, r)
	} else if n := f.notifier.Load(); n != nil {
		n.ServeHTTP(w, r)
	} else {
		f.other.ServeHTTP(w, r)
	}
}

// full answers on a connection that is one too many. A process that has many is none that should be started anew.
func (f *front) full(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == health.Live || r.URL.Path == health.Ready {
		f.health.ServeHTTP(w, r)
		return
	}
	notifier.Full(w, r)
}

// maxConnections is how many connections the process may have.
func (a *App) maxConnections() int {
	want := a.config.MaxConnections
	if fit := door.Fit(want); fit < want {
		if want != door.DefaultMax {
			a.log.Warn("fewer connections than --max-connections; raise the limit of open files (ulimit -n, LimitNOFILE=)", "connections", fit)
		}
		return fit
	}
	return want
}

// listen opens the address and answers there.
func (a *App) listen(ctx context.Context) error {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", a.config.Listen)
	if errors.Is(err, syscall.EADDRINUSE) {
		return &UserError{"port_taken", fmt.Sprintf("Another program listens on %s; stop it, or choose another address with --listen.", a.config.Listen)}
	}
	if err != nil {
		return &UserError{"listen_failed", fmt.Sprintf("hark cannot listen on %s: %v.", a.config.Listen, err)}
	}
	a.front = &front{health: a.health, listener: listener, other: http.NotFoundHandler()}
	if a.config.Admin == "" {
		a.front.metrics = a.health
	}
	switch {
	case !a.config.Notifier:
		a.front.metrics = localIfLoopback(listener, a.front.metrics)
	case a.config.naming():
		if a.front.metrics != nil {
			a.front.metrics = notifier.Local(a.front.metrics)
		}
		a.front.other = notifier.Local(http.HandlerFunc(notifier.Starting))
	default:
		a.front.other = http.HandlerFunc(notifier.Starting)
	}
	a.limit = door.NewLimit(a.maxConnections(), a.config.MaxConnectionsPerAddress, func() int {
		if hub := a.hub.Load(); hub != nil {
			return hub.TakenOver()
		}
		return 0
	}, a.log)
	a.front.server = door.NewServer(door.Options{
		Handler: a.front, Deadlines: a.config.Deadlines, Limit: a.limit, Full: http.HandlerFunc(a.front.full),
	})
	go func() {
		if err := a.front.server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			a.fail(fmt.Errorf("app: http: %w", err))
		}
	}()
	a.onStop(func(context.Context) { a.front.server.Close() })
	return nil
}

// localIfLoopback protects what is meant for this machine alone from web pages whose names lead to it.
func localIfLoopback(listener net.Listener, next http.Handler) http.Handler {
	if addr, ok := listener.Addr().(*net.TCPAddr); !ok || !addr.IP.IsLoopback() || next == nil {
		return next
	}
	return notifier.LocalHost(next)
}

func (a *App) openHub(context.Context) error {
	hub, err := sse.New(sse.Options{
		Queue: a.queue, Drain: a.config.Drain / 2, Log: a.log,
		Taken: a.limit.Taken, Patience: a.config.Deadlines.Write,
		HearAll: a.natsd != nil, // others may join it with --nats-listen; mostly this is the only one
	})
	if err != nil {
		return err
	}
	a.hub.Store(hub)
	return nil
}

func (a *App) openNotifier(ctx context.Context) error {
	origins, err := auth.NewOrigins(a.config.AllowOrigins)
	if err != nil {
		return &UserError{"origin_invalid", err.Error()}
	}
	var tickets *auth.Tickets
	err = a.wait(ctx, "the tickets in NATS", func(ctx context.Context) (err error) {
		tickets, err = auth.OpenTickets(ctx, a.queue.JetStream(), a.queue.Settings().Replicas)
		return err
	})
	if err != nil {
		return err
	}
	err = a.wait(ctx, "the revocations in NATS", func(ctx context.Context) error {
		return a.revocations.Open(ctx, a.queue.JetStream(), a.queue.Settings().Replicas)
	})
	if err != nil {
		return err
	}
	a.run("revocations", a.revocations.Run)
	var links *auth.Links
	err = a.wait(ctx, "the key of links in NATS", func(ctx context.Context) (err error) {
		links, err = auth.OpenLinks(ctx, a.queue.JetStream(), a.queue.Settings().Replicas)
		return err
	})
	if err != nil {
		return err
	}
	a.notifier, err = notifier.New(notifier.Options{
		Queue: a.queue, Inbox: a.inbox, Hub: a.hub.Load(), Verifier: a.verifier, Tickets: tickets, Revocations: a.revocations, Links: links,
		Healthy: a.healthy, Origins: origins, Naming: a.naming, RateLimit: a.config.RateLimit, Log: a.log,
		Patience: a.config.Deadlines.Write, BodyTime: a.config.Deadlines.Body,
	})
	if err != nil {
		return err
	}
	a.health.Register(a.notifier)
	a.onStop(func(ctx context.Context) {
		if err := a.front.server.Shutdown(ctx); err != nil {
			a.log.Warn("requests cut off", "err", err)
			a.front.server.Close()
		}
	})
	return nil
}

// runHub is the last step of the notifier: from here on it answers.
func (a *App) runHub(context.Context) error {
	a.run("hub", a.hub.Load().Run)
	a.front.notifier.Store(a.notifier)
	return nil
}
