package app

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/gofrs/flock"
	"github.com/hark-jobs/hark/internal/door"
	"github.com/hark-jobs/hark/internal/health"
	"github.com/hark-jobs/hark/internal/natsconn"
	"github.com/hark-jobs/hark/internal/natsd"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/notifier"
	"github.com/hark-jobs/hark/notifier/auth"
	"github.com/hark-jobs/hark/notifier/inbox"
	"github.com/hark-jobs/hark/notifier/sse"
	"github.com/hark-jobs/hark/worker/export"
	"github.com/nats-io/nats.go/jetstream"
)

// parts are what the steps of [Start] make for each other.
type parts struct {
	health      *health.Health
	front       *front
	admin       net.Listener
	limit       *door.Limit // of connections at front
	natsd       *natsd.Server
	nc          *natsconn.Conn
	queue       *jobs.Queue
	inbox       *inbox.Store
	hub         atomic.Pointer[sse.Hub]
	verifier    *auth.Verifier
	revocations *auth.Revocations
	naming      *auth.Issuer
	secret      []byte
	notifier    *notifier.Notifier
	exporter    *export.Exporter
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
	url, err := a.config.Database.Read()
	if err != nil {
		return &UserError{"database_unreadable", sentence(err, "secret: ")}
	}
	if url == "" {
		url = filepath.Join(a.config.Data, "inbox.db")
	}
	store, err := inbox.Open(url)
	if err != nil {
		return err
	}
	a.inbox = store
	a.health.Add(health.Check{Part: "inbox", Optional: true, Check: store.Ping})
	a.onStop(func(context.Context) {
		if err := store.Close(); err != nil {
			a.log.Error("inbox not closed", "err", err)
		}
	})
	return nil
}

func (a *App) openAuth(context.Context) error {
	text, err := a.config.JWTSecret.Read()
	if err != nil {
		return &UserError{"key_unusable", sentence(err, "secret: ")}
	}
	a.secret = []byte(text)
	if a.config.naming() {
		if a.secret, err = auth.LoadOrCreateSecret(filepath.Join(a.config.Data, "secret")); err != nil {
			return err
		}
		if a.naming, err = a.Issuer(); err != nil {
			return &UserError{"key_unusable", sentence(err, "auth: ")}
		}
	}
	c := &a.config
	a.revocations = auth.NewRevocations(auth.RevocationsOptions{MaxAge: c.MaxTokenAge, OnRevoked: a.endStreams, Logger: a.log})
	a.verifier, err = auth.New(auth.Options{
		Secret: a.secret, JWKS: c.JWKS, Issuer: c.JWTIssuer, Audience: c.JWTAudience, UserClaim: c.UserClaim, Scopes: c.ScopeMap,
		MaxAge: c.MaxTokenAge, Revocations: a.revocations, Logger: a.log,
	})
	if err != nil {
		return &UserError{"key_unusable", sentence(err, "auth: ")}
	}
	a.run("keys", a.verifier.Run)
	return nil
}

// endStreams ends the streams of tokens that were revoked, once there are streams.
func (a *App) endStreams(r auth.Revocation) {
	hub := a.hub.Load()
	switch {
	case hub == nil:
	case r.User != "":
		hub.EndUser(r.User, r.RevokedAt)
	default:
		hub.EndToken(r.ID)
	}
}

// runFiller gives the filler a connection of its own: what it reads, hundreds of messages at a time, must not stand
// before what is live.
func (a *App) runFiller(context.Context) error {
	nc, err := a.connect("hark inbox")
	if err != nil {
		return err
	}
	js, err := jetstream.New(nc.Conn)
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

// takeJobs is the last step: when it is undone, first of all, no new jobs are taken.
func (a *App) takeJobs(context.Context) error {
	a.health.Started()
	a.onStop(func(context.Context) {
		a.health.Stopping()
		if a.notifier != nil {
			a.notifier.Drain()
		}
	})
	return nil
}

// URL is where the process answers HTTP: the notifier, or of a worker alone, the health checks.
func (a *App) URL() string {
	host, port, _ := net.SplitHostPort(a.front.listener.Addr().String())
	if configured, _, _ := net.SplitHostPort(a.config.Listen); configured == "localhost" {
		host = configured
	}
	return "http://" + net.JoinHostPort(host, port)
}

// AdminURL is where the process answers those who run it; empty without [Config.Admin].
func (a *App) AdminURL() string {
	if a.admin == nil {
		return ""
	}
	return "http://" + a.admin.Addr().String()
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

// Issuer issues tokens that the notifier accepts. It fails if the keys are elsewhere.
func (a *App) Issuer() (*auth.Issuer, error) {
	c := &a.config
	o := auth.IssuerOptions{Secret: a.secret, Issuer: c.JWTIssuer, UserClaim: c.UserClaim, Scopes: c.ScopeMap, MaxAge: c.MaxTokenAge}
	if len(c.JWTAudience) > 0 {
		o.Audience = c.JWTAudience[0]
	}
	return auth.NewIssuer(o)
}
