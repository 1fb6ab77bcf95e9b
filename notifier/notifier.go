// Package notifier is hark's HTTP service: jobs, notifications and the event stream of docs/api.md.
package notifier

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hark-jobs/hark/internal/joblog"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/notifier/auth"
	"github.com/hark-jobs/hark/notifier/inbox"
	"github.com/hark-jobs/hark/notifier/sse"
)

// Options of a notifier. Store, Inbox, Hub and Links are required, and either Verifier, Tickets and Revocations, or an
// Authenticator.
type Options struct {
	Store *joblog.Store
	Inbox *inbox.Store
	Hub   *sse.Hub
	Links *auth.Links
	// Verifier is the Authenticator for JWTs. With it callers can store their token in hark's cookie: POST and DELETE
	// of /v1/session.
	Verifier *auth.Verifier
	// Authenticator replaces Verifier in a program with a login of its own. That login begins and ends the sessions, so
	// there is GET /v1/session, but neither POST nor DELETE. Tickets and Revocations are optional then. Without Tickets
	// there is no /v1/stream/ticket; only pages need it whose streams can send neither a cookie nor a header. Without
	// Revocations there is no /v1/revocations.
	Authenticator Authenticator
	Tickets       *auth.Tickets
	// Revocations must be open, and those of the Verifier.
	Revocations *auth.Revocations
	// Healthy returns an error while the queue is known to store nothing. It must not block. Defaults to a function
	// that returns nil.
	Healthy func() error
	// ReadOnly makes the notifier refuse requests that would change a job, an inbox or a revocation.
	ReadOnly bool
	// Origins are those whose pages may call with the cookie. Defaults to the page's own origin alone.
	Origins *auth.Origins
	// Naming, if set, signs in any caller under any name. It needs a Verifier. It must be nil wherever strangers can
	// connect. With it, the notifier refuses requests without a loopback name as Host, and those through a proxy.
	Naming *auth.Issuer
	// SignInURL is the page where the application signs users in, for the link of hark's page: a path on the same host, or an
	// http(s) URL. Defaults to none: there is no link.
	SignInURL string
	// Topics are the rules of which one must permit a topic of live events before a user may listen to it, unless the
	// token does. Defaults to none; with Naming all topics are then permitted.
	Topics []jobs.TopicRule
	// RateLimit is the number of requests a second that each user may make, with bursts of ten times that number. The
	// limit for enqueueing jobs is a fifth of it. 0 means no limit. Services (scope notify, enqueue or admin) have
	// no limit.
	RateLimit float64
	// WriteTimeout is the timeout of a write of up to 32 KiB of a download. So a download has a minimum rate of about
	// 1 KiB/s. Defaults to 30 s.
	WriteTimeout time.Duration
	// BodyTimeout is the time for a request's body to arrive. Defaults to 30 s.
	BodyTimeout time.Duration
	// Logger defaults to slog.Default().
	Logger *slog.Logger
}

// Notifier serves hark's HTTP API: below a path of another program's router with [Notifier.Register], or as the
// [http.Handler] of a whole server. It is safe for concurrent use. It is a [prometheus.Collector] of its metrics, and
// does not register them. It changes nothing global: neither Gin's mode nor a default registry or logger.
type Notifier struct {
	store *joblog.Store
	inbox *inbox.Store
	hub   *sse.Hub

	authenticator Authenticator

	verifier   *auth.Verifier    // nil with an Authenticator of the embedding program
	tickets    *auth.Tickets     // may be nil
	revoked    *auth.Revocations // may be nil, which revokes nothing
	links      *auth.Links
	backlogs   *joblog.Backlogs
	owners     owners
	healthy    func() error
	origins    *auth.Origins
	naming     *auth.Issuer
	signInURL  string
	topicRules []jobs.TopicRule
	requests   *limiter
	enqueues   *limiter
	gates      gates
	log        *slog.Logger
	meter      meter

	writeTimeout time.Duration
	bodyTimeout  time.Duration       // 0 means bodyTimeout
	handler      func() http.Handler // made on first use, since a program that calls Register does not need it
	readOnly     bool
	draining     atomic.Bool
}

// New checks the options and returns a notifier. It starts nothing: the caller runs the hub and the inbox's ingester.
func New(o Options) (*Notifier, error) {
	if o.Store == nil || o.Inbox == nil || o.Hub == nil || o.Links == nil {
		return nil, errors.New("notifier: Store, Inbox, Hub and Links are required")
	}
	switch {
	case o.Authenticator == nil:
		if o.Verifier == nil || o.Tickets == nil || o.Revocations == nil {
			return nil, errors.New("notifier: without an Authenticator, Verifier, Tickets and Revocations are required")
		}
		o.Authenticator = o.Verifier
	case o.Verifier != nil || o.Naming != nil:
		return nil, errors.New("notifier: an Authenticator excludes Verifier and Naming")
	}
	if o.SignInURL != "" && !jobs.SafeLink(o.SignInURL) {
		return nil, fmt.Errorf("notifier: SignInURL %q is neither a path on the same host nor an http(s) URL", o.SignInURL)
	}
	for i := range o.Topics {
		if err := o.Topics[i].Check(); err != nil {
			return nil, fmt.Errorf("notifier: Topics: %w", err)
		}
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.WriteTimeout == 0 {
		o.WriteTimeout = 30 * time.Second
	}
	if o.Healthy == nil {
		o.Healthy = func() error { return nil }
	}
	if o.Origins == nil {
		var err error
		if o.Origins, err = auth.NewOrigins(nil); err != nil {
			return nil, err
		}
	}
	n := &Notifier{
		store: o.Store, inbox: o.Inbox, hub: o.Hub, authenticator: o.Authenticator, verifier: o.Verifier, tickets: o.Tickets, revoked: o.Revocations,
		links: o.Links, topicRules: o.Topics, backlogs: joblog.NewBacklogs(o.Store), owners: owners{find: o.Store.Owner},
		healthy: o.Healthy, readOnly: o.ReadOnly, origins: o.Origins, naming: o.Naming, signInURL: o.SignInURL, writeTimeout: o.WriteTimeout, bodyTimeout: o.BodyTimeout,
		requests: newLimiter(o.RateLimit), enqueues: newLimiter(o.RateLimit / 5), gates: newGates(), log: o.Logger.With("part", "notifier"), meter: newMeter(o.Hub.Open, o.Hub.Skipped),
	}
	n.handler = sync.OnceValue(n.newRouter)
	return n, nil
}

// Drain makes the notifier refuse new jobs, because the process is about to stop. It does not block.
func (n *Notifier) Drain() { n.draining.Store(true) }
