package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/gofrs/flock"
	"github.com/hark-jobs/hark/internal/natsd"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/notifier"
	"github.com/hark-jobs/hark/notifier/auth"
	"github.com/hark-jobs/hark/notifier/inbox"
	"github.com/hark-jobs/hark/notifier/sse"
	"github.com/hark-jobs/hark/worker"
	"github.com/hark-jobs/hark/worker/export"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// parts are what the steps of [Start] make for each other.
type parts struct {
	natsd    *natsd.Server
	nc       *nats.Conn
	queue    *jobs.Queue
	inbox    *inbox.Store
	hub      atomic.Pointer[sse.Hub]
	verifier *auth.Verifier
	naming   *auth.Issuer
	secret   []byte
	notifier *notifier.Notifier
	listener net.Listener
	server   *http.Server
}

// lockData keeps other processes out of the data folder.
func (a *App) lockData(context.Context) error {
	if a.config.Data == "" {
		return nil
	}
	if err := os.MkdirAll(a.config.Data, 0o700); err != nil {
		return &UserError{"data_unusable", fmt.Sprintf("The data folder %s cannot be made: %v.", a.config.Data, err)}
	}
	lock := flock.New(filepath.Join(a.config.Data, "lock"))
	got, err := lock.TryLock()
	if err != nil {
		return &UserError{"data_unusable", fmt.Sprintf("The data folder %s cannot be used: %v.", a.config.Data, err)}
	}
	if !got {
		return &UserError{"data_in_use", fmt.Sprintf("Another hark uses the data folder %s; stop it, or name another folder with --data.", a.config.Data)}
	}
	a.onStop(func(context.Context) { lock.Unlock() })
	return nil
}

func (a *App) openInbox(context.Context) error {
	if !a.config.Notifier {
		return nil
	}
	url := a.config.Database
	if url == "" {
		url = filepath.Join(a.config.Data, "inbox.db")
	}
	store, err := inbox.Open(url)
	if err != nil {
		return err
	}
	a.inbox = store
	a.onStop(func(context.Context) {
		if err := store.Close(); err != nil {
			a.log.Error("inbox not closed", "err", err)
		}
	})
	return nil
}

// openNATS starts the server, if it is to be one of this process, and connects to it.
func (a *App) openNATS(context.Context) (err error) {
	if a.config.NATS == "" {
		a.natsd, err = natsd.Start(natsd.Options{
			Dir: filepath.Join(a.config.Data, "nats"), Listen: a.config.NATSListen, SyncAlways: a.config.SyncAlways, Log: a.log,
		})
		if err != nil {
			return err
		}
		a.onStop(func(context.Context) { a.natsd.Stop() })
		a.run("natsd", a.natsd.Run)
	}
	a.nc, err = a.connect("hark")
	return err
}

// connect makes a connection to NATS that lasts until its turn to stop comes.
func (a *App) connect(name string) (nc *nats.Conn, err error) {
	log := a.log.With("connection", name)
	opts := []nats.Option{
		nats.Name(name), nats.MaxReconnects(-1), nats.ReconnectWait(100 * time.Millisecond),
		nats.ReconnectJitter(200*time.Millisecond, 500*time.Millisecond),
		nats.ErrorHandler(func(nc *nats.Conn, sub *nats.Subscription, err error) {
			// Once there is a hub, its connection is known, too.
			if hub := a.hub.Load(); hub != nil && nc == a.nc && sub != nil && errors.Is(err, nats.ErrSlowConsumer) {
				hub.Missed(sub)
				return
			}
			log.Warn("NATS", "err", err)
		}),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				log.Warn("connection to NATS lost", "err", err)
			}
		}),
		nats.ReconnectHandler(func(*nats.Conn) { log.Info("connection to NATS is back") }),
	}
	if a.natsd != nil {
		nc, err = a.natsd.Connect(opts...)
	} else {
		nc, err = nats.Connect(a.config.NATS, append(opts, nats.RetryOnFailedConnect(true))...)
	}
	if err != nil {
		return nil, fmt.Errorf("app: connect to NATS: %w", err)
	}
	a.onStop(func(context.Context) {
		// What was published last, acks among it, is on its way when Close returns only if it was flushed.
		if nc.IsConnected() {
			if err := nc.FlushTimeout(time.Second); err != nil {
				log.Debug("not flushed", "err", err)
			}
		}
		nc.Close()
	})
	return nc, nil
}

// openQueue waits for a NATS server that is not there yet, for as long as ctx allows.
func (a *App) openQueue(ctx context.Context) error {
	config := jobs.Config{MaxAge: a.config.MaxAge, FileAge: a.config.FileAge, Replicas: a.config.Replicas, Log: a.log}
	for pause := 100 * time.Millisecond; ; pause = min(2*pause, 5*time.Second) {
		try, cancel := context.WithTimeout(ctx, 10*time.Second)
		queue, err := jobs.Open(try, a.nc, config)
		cancel()
		if err == nil {
			a.queue = queue
			return nil
		}
		if a.config.NATS == "" {
			return err
		}
		a.log.Warn("NATS is not ready; trying again", "err", err, "in", pause)
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause):
		}
	}
}

func (a *App) openAuth(ctx context.Context) (err error) {
	a.secret = []byte(a.config.JWTSecret)
	if a.config.naming() {
		if a.secret, err = auth.LoadOrCreateSecret(filepath.Join(a.config.Data, "secret")); err != nil {
			return err
		}
		if a.naming, err = auth.NewIssuer(auth.IssuerOptions{Secret: a.secret}); err != nil {
			return err
		}
	}
	a.verifier, err = auth.New(auth.Options{Secret: a.secret, JWKS: a.config.JWKS, Logger: a.log})
	if err != nil {
		return &UserError{"key_unusable", err.Error()}
	}
	a.run("keys", a.verifier.Run)
	return nil
}

// runFiller gives the filler a connection of its own: what it reads, hundreds of messages at a time, must not stand
// before what is live.
func (a *App) runFiller(context.Context) error {
	nc, err := a.connect("hark inbox")
	if err != nil {
		return err
	}
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	filler, err := inbox.NewFiller(inbox.FillerOptions{
		Store: a.inbox, JetStream: js, Epoch: a.queue.CurrentEpoch, Logger: a.log,
	})
	if err != nil {
		return err
	}
	a.run("filler", filler.Run)
	return nil
}

// runRetention forgets old notifications, an hour late at most.
func (a *App) runRetention(context.Context) error {
	a.run("retention", func(ctx context.Context) error {
		for {
			n, err := a.inbox.Expire(ctx, time.Now().Add(-a.config.InboxAge))
			if err != nil && ctx.Err() == nil {
				a.log.Warn("old notifications not deleted", "err", err)
			} else if n > 0 {
				a.log.Info("old notifications deleted", "n", n)
			}
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(time.Hour):
			}
		}
	})
	return nil
}

func (a *App) openHTTP(ctx context.Context) error {
	hub, err := sse.New(sse.Options{
		Queue: a.queue, Drain: a.config.Drain / 2, Log: a.log,
		HearAll: a.natsd != nil, // others may join it with --nats-listen; mostly this is the only one
	})
	if err != nil {
		return err
	}
	a.hub.Store(hub)
	tickets, err := auth.OpenTickets(ctx, a.queue.JetStream(), max(a.config.Replicas, 1))
	if err != nil {
		return err
	}
	origins, err := auth.NewOrigins(a.config.AllowOrigins)
	if err != nil {
		return &UserError{"origin_invalid", err.Error()}
	}
	healthy := func() error { return nil }
	if a.natsd != nil {
		healthy = a.natsd.Healthy
	}
	a.notifier, err = notifier.New(notifier.Options{
		Queue: a.queue, Inbox: a.inbox, Hub: hub, Verifier: a.verifier, Tickets: tickets,
		Healthy: healthy, Origins: origins, Naming: a.naming, RateLimit: a.config.RateLimit, Log: a.log,
	})
	if err != nil {
		return err
	}
	a.listener, err = new(net.ListenConfig).Listen(ctx, "tcp", a.config.Listen)
	if errors.Is(err, syscall.EADDRINUSE) {
		return &UserError{"port_taken", fmt.Sprintf("Another program listens on %s; stop it, or choose another address with --listen.", a.config.Listen)}
	}
	if err != nil {
		return &UserError{"listen_failed", fmt.Sprintf("hark cannot listen on %s: %v.", a.config.Listen, err)}
	}
	a.server = &http.Server{
		Handler: a.notifier, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 32 << 10,
	}
	a.onStop(func(ctx context.Context) {
		if err := a.server.Shutdown(ctx); err != nil {
			a.log.Warn("requests cut off", "err", err)
			a.server.Close()
		}
		a.listener.Close()
	})
	return nil
}

func (a *App) runHub(context.Context) error {
	a.run("hub", a.hub.Load().Run)
	return nil
}

func (a *App) serveHTTP(context.Context) error {
	go func() {
		if err := a.server.Serve(a.listener); !errors.Is(err, http.ErrServerClosed) {
			a.failed <- fmt.Errorf("app: http: %w", err)
		}
	}()
	return nil
}

func (a *App) runWorker(ctx context.Context) error {
	handlers := append([]worker.Handler{worker.Sleep()}, a.config.Handlers...)
	if !a.config.NoExport {
		exporter, err := a.openExporter()
		if err != nil {
			return err
		}
		handlers = append(handlers, exporter.Handler())
	}
	w, err := worker.New(worker.Options{
		Queue: a.queue, Handlers: handlers, Lease: a.config.Lease, Grace: a.config.Drain, Log: a.log,
	})
	if err != nil {
		return err
	}
	if err := w.Kinds(ctx); err != nil {
		return err
	}
	a.run("worker", w.Run)
	return nil
}

func (a *App) openExporter() (*export.Exporter, error) {
	config, err := export.Load(a.config.ExportConfig)
	if a.config.ExportConfig == "" {
		config, err = export.SampleConfig(filepath.Join(a.config.Data, "sample"))
	}
	if err != nil {
		return nil, &UserError{"config_invalid", err.Error()}
	}
	exporter, err := export.Open(config)
	if err != nil {
		return nil, err
	}
	// The sample shop is made meanwhile; an export that comes sooner waits for it.
	a.run("exporter", func(ctx context.Context) error {
		if err := exporter.Prepare(ctx); err != nil && ctx.Err() == nil {
			a.log.Warn("sample data not made; the first export tries again", "err", err)
		}
		<-ctx.Done()
		return exporter.Close()
	})
	return exporter, nil
}

// takeJobs is the last step: when it is undone, first of all, no new jobs are taken.
func (a *App) takeJobs(context.Context) error {
	if a.notifier != nil {
		a.onStop(func(context.Context) { a.notifier.Drain() })
	}
	return nil
}

// URL is where the notifier listens; empty without one.
func (a *App) URL() string {
	if a.listener == nil {
		return ""
	}
	host, port, _ := net.SplitHostPort(a.listener.Addr().String())
	if configured, _, _ := net.SplitHostPort(a.config.Listen); configured == "localhost" {
		host = configured
	}
	return "http://" + net.JoinHostPort(host, port)
}

// NATSURL is where the server inside the process takes connections; empty without one, or if it takes none.
func (a *App) NATSURL() string {
	if a.natsd == nil {
		return ""
	}
	return a.natsd.URL()
}

// Queue is the queue that the parts work on.
func (a *App) Queue() *jobs.Queue { return a.queue }

// Issuer issues tokens that the notifier accepts; nil if its keys are elsewhere.
func (a *App) Issuer() (*auth.Issuer, error) {
	return auth.NewIssuer(auth.IssuerOptions{Secret: a.secret})
}
