package hark

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/gofrs/flock"
	"github.com/hark-jobs/hark/internal/door"
	"github.com/hark-jobs/hark/internal/health"
	"github.com/hark-jobs/hark/internal/joblog"
	"github.com/hark-jobs/hark/internal/natsconn"
	"github.com/hark-jobs/hark/internal/natsd"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/notifier"
	"github.com/hark-jobs/hark/notifier/auth"
	"github.com/hark-jobs/hark/notifier/inbox"
	"github.com/hark-jobs/hark/notifier/sse"
	"github.com/hark-jobs/hark/worker"
	"github.com/hark-jobs/hark/worker/export"
	"github.com/nats-io/nats.go/jetstream"
)

// parts are the results of the steps of [New], for later steps.
type parts struct {
	certificate *certificate // nil with plain HTTP
	copied      bool         // the data folder is a copy of one that cannot be written to
	health      *health.Health
	front       *front
	admin       net.Listener
	adminMux    *http.ServeMux // of admin, or nil
	limit       *door.Limit    // of connections at front
	natsd       *natsd.Server
	nc          *natsconn.Conn
	store       *joblog.Store
	inbox       *inbox.Store
	inboxIsOurs bool   // it is a file in Data, which no other process uses
	inboxLacks  string // what that file was at the start, "missing" or "empty"; "" if it was neither
	hub         *sse.Hub
	verifier    *auth.Verifier
	revocations *auth.Revocations
	naming      *auth.Issuer
	worker      *worker.Worker
	secret      []byte
	notifier    *notifier.Notifier
	exporter    *export.Exporter
	losses      losses
}

// lockData locks the data folder against other processes.
func (s *Server) lockData(context.Context) error {
	if s.options.Data == "" {
		return nil
	}
	if err := os.MkdirAll(s.options.Data, 0o700); err != nil {
		return &Error{Code: "data_unusable", Message: fmt.Sprintf("The data folder %s cannot be made: %v.", s.options.Data, err)}
	}
	lock := flock.New(filepath.Join(s.options.Data, "lock"))
	got, err := lock.TryLock()
	if err != nil {
		return &Error{Code: "data_unusable", Message: fmt.Sprintf("The data folder %s cannot be used: %v.", s.options.Data, err)}
	}
	if !got {
		return &Error{Code: "data_in_use", Message: fmt.Sprintf("Another hark uses the data folder %s; stop it, or name another folder with Options.Data.", s.options.Data)}
	}
	s.onStop(func(context.Context) { lock.Unlock() })
	if err := s.checkWritable(); err != nil {
		return err
	}
	if s.options.notifies() && !s.copied {
		s.keepReserve()
	}
	return nil
}

func (s *Server) openInbox(context.Context) error {
	s.inbox = s.options.Inbox
	if s.inbox != nil {
		s.health.Add(health.Check{Part: "inbox", Optional: true, Check: s.inbox.Ping})
		return nil
	}
	url, err := s.options.Database.Read()
	if err != nil {
		return &Error{Code: "database_unreadable", Message: sentence(err, "secret: ")}
	}
	if url == "" {
		url = filepath.Join(s.options.Data, "inbox.db")
		s.inboxIsOurs = true
		switch info, err := os.Stat(url); {
		case errors.Is(err, fs.ErrNotExist):
			s.inboxLacks = "missing"
		case err == nil && info.Size() == 0: // to SQLite that is a new database
			s.inboxLacks = "empty"
		}
	}
	store, err := inbox.Open(url, inbox.Options{
		Schema: s.options.InboxSchema, TablePrefix: s.options.InboxTablePrefix, SyncAlways: s.options.SyncAlways,
	})
	var mistake *inbox.OptionError
	if errors.As(err, &mistake) {
		return &Error{Code: "inbox_invalid", Message: "Options.Inbox" + mistake.Option + " " + mistake.Problem + ".", Err: err}
	}
	if err != nil {
		return err
	}
	s.inbox = store
	s.health.Add(health.Check{Part: "inbox", Optional: true, Check: store.Ping})
	s.onStop(func(context.Context) {
		if err := store.Close(); err != nil {
			s.log.Error("closing the inbox failed", "err", err)
		}
	})
	return nil
}

func (s *Server) openAuth(context.Context) error {
	o := &s.options
	s.revocations = auth.NewRevocations(auth.RevocationsOptions{MaxAge: o.MaxTokenAge, OnRevoked: s.endStreams, Logger: s.log})
	if o.Auth != nil {
		return nil
	}
	text, err := o.JWTSecret.Read()
	if err != nil {
		return &Error{Code: "key_unusable", Message: sentence(err, "secret: ")}
	}
	s.secret = []byte(text)
	if o.noKey() {
		if s.secret, err = auth.LoadOrCreateSecret(filepath.Join(o.Data, "secret")); err != nil {
			return err
		}
		if s.naming, err = s.Issuer(); err != nil {
			return &Error{Code: "key_unusable", Message: sentence(err, "auth: ")}
		}
	}
	s.verifier, err = auth.New(auth.Options{
		Secret: s.secret, JWKS: o.JWKS, Issuer: o.JWTIssuer, Audience: o.JWTAudience, UserClaim: o.UserClaim, Scopes: o.ScopeMap,
		MaxAge: o.MaxTokenAge, Revocations: s.revocations, Logger: s.log,
	})
	if err != nil {
		return &Error{Code: "key_unusable", Message: sentence(err, "auth: ")}
	}
	s.run("keys", s.verifier.Run)
	return nil
}

// endStreams ends the streams of tokens that were revoked. There are no revocations before openNotifier opens them.
func (s *Server) endStreams(r auth.Revocation) {
	if r.User != "" {
		s.hub.EndUser(r.User, r.RevokedAt)
	} else {
		s.hub.EndToken(r.ID)
	}
}

// runIngester gives the ingester a separate connection: its reads of hundreds of messages must not delay live messages.
func (s *Server) runIngester(context.Context) error {
	nc, err := s.connect("hark inbox")
	if err != nil {
		return err
	}
	js, err := s.options.location().JetStream(nc.Conn)
	if err != nil {
		return err
	}
	ingesters, err := s.newIngesters(js)
	if err != nil {
		return err
	}
	s.run("ingester", func(ctx context.Context) error {
		for {
			s.runIngesters(ctx, ingesters)
			if ctx.Err() != nil {
				return nil
			}
			if ingesters, err = s.newIngesters(js); err != nil {
				return err
			}
		}
	})
	return nil
}

// newIngesters returns an ingester for each stream of the log.
func (s *Server) newIngesters(js jetstream.JetStream) (all []*inbox.Ingester, err error) {
	n := s.store.Streams()
	for i := range n {
		ingester, err := inbox.NewIngester(inbox.IngesterOptions{
			Store: s.inbox, JetStream: js, Namespace: s.store.Namespace(), Stream: i, Streams: n,
			Epoch:      func(ctx context.Context) (jobs.Epoch, error) { return s.store.EpochIn(ctx, i) },
			BeginEpoch: s.store.BeginEpoch, Alone: s.inboxIsOurs, Logger: s.log,
			Skipped: func(subject string, seq uint64, err error) {
				s.store.Skip(joblog.SkippedNotification, subject, seq, err)
			},
		})
		if err != nil {
			return nil, err
		}
		all = append(all, ingester)
	}
	return all, nil
}

// runIngesters runs ingesters until ctx ends, or the log has another number of streams.
func (s *Server) runIngesters(ctx context.Context, all []*inbox.Ingester) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var running sync.WaitGroup
	defer running.Wait()
	defer stop()
	for _, ingester := range all {
		running.Go(func() { _ = ingester.Run(ctx) }) // it retries all failures
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for s.store.Streams() == len(all) {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// runRetention deletes old notifications every hour.
func (s *Server) runRetention(context.Context) error {
	s.run("retention", func(ctx context.Context) error {
		for {
			n, err := s.inbox.Expire(ctx, time.Now().Add(-s.options.InboxAge))
			if err != nil && ctx.Err() == nil {
				s.log.Warn("deleting old notifications failed", "err", err)
			} else if n > 0 {
				s.log.Info("old notifications deleted", "n", n)
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

// drainOnStop is the last step, so that Stop begins with it: the notifier accepts no new jobs any more.
func (s *Server) drainOnStop(context.Context) error {
	s.health.Started()
	s.onStop(func(context.Context) {
		s.health.Stopping()
		if s.notifier != nil {
			s.notifier.Drain()
		}
	})
	return nil
}
