package hark

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync/atomic"
	"syscall"

	"github.com/hark-jobs/hark/internal/door"
	"github.com/hark-jobs/hark/internal/health"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/notifier"
	"github.com/hark-jobs/hark/notifier/auth"
	"github.com/hark-jobs/hark/notifier/sse"
	"github.com/nats-io/nats.go"
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

// full answers on a connection beyond the limit. The liveness check still succeeds, so that a busy process is not restarted.
func (f *front) full(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == health.Live || r.URL.Path == health.Ready {
		f.health.ServeHTTP(w, r)
		return
	}
	notifier.Full(w, r)
}

// maxConnections is how many connections the process may have.
func (s *Server) maxConnections() int {
	want := s.options.MaxConnections
	if fit := door.Fit(want); fit < want {
		if want != door.DefaultMax {
			s.log.Warn("fewer connections than Options.MaxConnections; raise the limit of open files (ulimit -n, LimitNOFILE=)", "connections", fit)
		}
		return fit
	}
	return want
}

// openFront makes what answers HTTP.
func (s *Server) openFront() {
	s.front = &front{health: s.health, other: http.NotFoundHandler()}
	if s.options.Admin == "" {
		s.front.metrics = s.health
	}
	switch {
	case !s.options.notifies():
	case s.options.noKey():
		if s.front.metrics != nil {
			s.front.metrics = notifier.Local(s.front.metrics)
		}
		s.front.other = notifier.Local(http.HandlerFunc(notifier.Starting))
	default:
		s.front.other = http.HandlerFunc(notifier.Starting)
	}
	s.limit = door.NewLimit(s.maxConnections(), s.options.MaxConnectionsPerAddress, s.log)
	s.front.server = door.NewServer(door.Options{
		Handler: s.front, Deadlines: door.Deadlines(s.options.Deadlines), Limit: s.limit, Full: http.HandlerFunc(s.front.full), Logger: s.log,
	})
}

// listen listens on the address and serves HTTP.
func (s *Server) listen(ctx context.Context) error {
	s.openFront()
	if s.options.Listen == "" {
		return nil
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", s.options.Listen)
	if errors.Is(err, syscall.EADDRINUSE) {
		return &Error{Code: "port_taken", Message: fmt.Sprintf("Another program listens on %s; stop it, or choose another address with Options.Listen.", s.options.Listen), Err: err}
	}
	if err != nil {
		return &Error{Code: "listen_failed", Message: fmt.Sprintf("hark cannot listen on %s: %v.", s.options.Listen, err), Err: err}
	}
	s.front.listener = listener
	if !s.options.notifies() {
		s.front.metrics = localIfLoopback(listener, s.front.metrics)
	}
	serve := s.front.server.Serve
	if s.certificate != nil {
		secure(s.front.server, s.certificate)
		serve = func(l net.Listener) error { return s.front.server.ServeTLS(l, "", "") }
	}
	go func() {
		if err := serve(listener); !errors.Is(err, http.ErrServerClosed) {
			s.fail(fmt.Errorf("hark: http: %w", err))
		}
	}()
	s.onStop(func(context.Context) { s.front.server.Close() })
	return nil
}

// localIfLoopback protects a loopback listener from web pages whose DNS names resolve to this machine.
func localIfLoopback(listener net.Listener, next http.Handler) http.Handler {
	if addr, ok := listener.Addr().(*net.TCPAddr); !ok || !addr.IP.IsLoopback() || next == nil {
		return next
	}
	return notifier.LocalHost(next)
}

// openHub makes the hub, and adds it to the limit of connections and to the error handler of its connection, which were made
// before it.
func (s *Server) openHub(context.Context) (err error) {
	s.hub, err = sse.New(sse.Options{
		Queue: s.store, Drain: s.options.Drain / 2, Logger: s.log,
		OnTakeOver: s.limit.Taken, WriteTimeout: s.options.Deadlines.Write,
		SubscribeAll: s.natsd != nil, // with NATSListen there may be other notifiers, but mostly there is one
		Exclusive:    s.natsd != nil && s.options.NATSListen == "",
		Announced: func(topic string) bool {
			return slices.ContainsFunc(s.options.Topics, func(r jobs.TopicRule) bool { return r.Announces(topic) })
		},
	})
	if err != nil {
		return err
	}
	s.limit.CountElsewhere(s.hub.TakenOver)
	others := s.nc.Opts.AsyncErrorCB
	s.nc.SetErrorHandler(func(nc *nats.Conn, sub *nats.Subscription, err error) {
		if sub != nil && errors.Is(err, nats.ErrSlowConsumer) {
			s.hub.NotifySlowConsumer(sub)
			return
		}
		others(nc, sub, err)
	})
	return nil
}

func (s *Server) openNotifier(ctx context.Context) error {
	origins, err := auth.NewOrigins(s.options.AllowOrigins)
	if err != nil {
		return &Error{Code: "origin_invalid", Message: err.Error()}
	}
	var tickets *auth.Tickets
	err = s.wait(ctx, "the tickets in NATS", func(ctx context.Context) (err error) {
		tickets, err = auth.OpenTickets(ctx, s.store)
		return err
	})
	if err != nil {
		return err
	}
	err = s.wait(ctx, "the revocations in NATS", func(ctx context.Context) error {
		return s.revocations.Open(ctx, s.store)
	})
	if err != nil {
		return err
	}
	s.run("revocations", s.revocations.Run)
	var links *auth.Links
	err = s.wait(ctx, "the key of links in NATS", func(ctx context.Context) (err error) {
		links, err = auth.OpenLinks(ctx, s.store)
		return err
	})
	if err != nil {
		return err
	}
	s.run("links", links.Run)
	s.notifier, err = notifier.New(notifier.Options{
		Store: s.store, Inbox: s.inbox, Hub: s.hub, Verifier: s.verifier, Authenticator: s.options.Auth, Tickets: tickets,
		Revocations: s.revocations, Links: links, Healthy: s.healthy, ReadOnly: s.copied, Origins: origins, Naming: s.naming, SignInURL: s.options.SignInURL,
		Topics: s.options.Topics, RateLimit: s.options.RateLimit, Logger: s.log, WriteTimeout: s.options.Deadlines.Write, BodyTimeout: s.options.Deadlines.Body,
	})
	if err != nil {
		return err
	}
	s.meter(s.notifier)
	return nil
}

// endHTTPOnStop makes Close wait for the requests that are being answered.
func (s *Server) endHTTPOnStop(context.Context) error {
	s.onStop(func(ctx context.Context) {
		if err := s.front.server.Shutdown(ctx); err != nil {
			s.log.Warn("requests cut off", "err", err)
			s.front.server.Close()
		}
	})
	return nil
}

// runHub is the last step of the notifier. After it the notifier answers.
func (s *Server) runHub(context.Context) error {
	s.run("hub", s.hub.Run)
	s.front.notifier.Store(s.notifier)
	s.phase.Store(int32(serving))
	s.onStop(func(context.Context) { s.phase.Store(int32(ended)) })
	return nil
}
