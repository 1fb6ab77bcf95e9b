// Package notifier is hark's HTTP service: jobs, notifications and the event stream of docs/api.md.
package notifier

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/notifier/auth"
	"github.com/hark-jobs/hark/notifier/inbox"
	"github.com/hark-jobs/hark/notifier/sse"
	"github.com/hark-jobs/hark/notifier/web"
)

// Options of a notifier. The first six are required.
type Options struct {
	Queue    *jobs.Queue
	Inbox    *inbox.Store
	Hub      *sse.Hub
	Verifier *auth.Verifier
	Tickets  *auth.Tickets
	// Revocations are those that the verifier asks, opened.
	Revocations *auth.Revocations
	Links       *auth.Links
	// Healthy says whether the queue stores what it is given, where that can be known; nil means that it cannot.
	Healthy func() error
	// Origins may call with the cookie; nil means the page's own alone.
	Origins *auth.Origins
	// Naming, if set, signs in anybody who gives a name. It must be nil wherever strangers can connect. With it, only
	// requests are answered whose Host is a loopback name, and that came through no proxy.
	Naming *auth.Issuer
	// RateLimit is how many requests a second each user may make, ten times as many after a rest, and a fifth
	// of that for jobs to be enqueued. 0 means no limit. Services, with scope notify or admin, have none.
	RateLimit float64
	// Patience is how long each 32 KiB of a file may wait to be taken, so that a download has a least rate of about
	// 1 KiB/s. 30 s.
	Patience time.Duration
	// BodyTime is how long a body may take to arrive. 30 s.
	BodyTime time.Duration
	Log      *slog.Logger // slog.Default()
}

// Notifier answers HTTP requests. It is safe for concurrent use. It is a [prometheus.Collector] of its metrics.
type Notifier struct {
	queue    *jobs.Queue
	inbox    *inbox.Store
	hub      *sse.Hub
	verifier *auth.Verifier
	tickets  *auth.Tickets
	revoked  *auth.Revocations
	links    *auth.Links
	backlogs *jobs.Backlogs
	healthy  func() error
	origins  *auth.Origins
	naming   *auth.Issuer
	requests *limiter
	enqueues *limiter
	gates    gates
	log      *slog.Logger
	meter    meter
	patience time.Duration
	bodyTime time.Duration // 0 stands for the default
	handler  http.Handler
	draining atomic.Bool
}

// New checks the options and makes a notifier of them. It starts nothing: the hub and the inbox's filler
// are run by whoever made them.
func New(o Options) (*Notifier, error) {
	if o.Queue == nil || o.Inbox == nil || o.Hub == nil || o.Verifier == nil || o.Tickets == nil || o.Revocations == nil || o.Links == nil {
		return nil, errors.New("notifier: needs a queue, an inbox, a hub, a verifier, tickets and revocations")
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Patience == 0 {
		o.Patience = 30 * time.Second
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
		queue: o.Queue, inbox: o.Inbox, hub: o.Hub, verifier: o.Verifier, tickets: o.Tickets, revoked: o.Revocations,
		links: o.Links, backlogs: jobs.NewBacklogs(o.Queue),
		healthy: o.Healthy, origins: o.Origins, naming: o.Naming, patience: o.Patience, bodyTime: o.BodyTime,
		requests: newLimiter(o.RateLimit), enqueues: newLimiter(o.RateLimit / 5), gates: newGates(), log: o.Log.With("part", "notifier"), meter: newMeter(o.Hub.Open),
	}
	n.handler = n.routes()
	return n, nil
}

// Drain makes the notifier take no more jobs, because the process is about to stop.
func (n *Notifier) Drain() { n.draining.Store(true) }

// ServeHTTP implements [http.Handler].
func (n *Notifier) ServeHTTP(w http.ResponseWriter, r *http.Request) { n.handler.ServeHTTP(w, r) }

// Handlers pass the request's context on, and never gin's, which is used again for the next request while
// others may still hold it.
func (n *Notifier) routes() http.Handler {
	gin.SetMode(gin.ReleaseMode)
	r := gin.New()
	r.HandleMethodNotAllowed = true
	r.RedirectTrailingSlash = false // its redirects would pass by all that follows
	r.Use(n.identify, n.measure, gin.CustomRecoveryWithWriter(nil, n.recovered), n.local, n.cors)
	r.NoRoute(func(c *gin.Context) {
		n.fail(c, newProblem(http.StatusNotFound, "not_found", "There is nothing here; see /openapi.json."))
	})
	r.NoMethod(func(c *gin.Context) {
		n.fail(c, newProblem(http.StatusMethodNotAllowed, "method_not_allowed", "This does not take "+c.Request.Method+"; see /openapi.json."))
	})

	get(r, "/openapi.json", n.openapi)
	page := gin.WrapH(pageHeaders(web.Handler()))
	get(r, "/", page)
	get(r, "/hark.js", page)
	get(r, "/assets/*file", page)

	session := r.Group("/v1/session", timeLimit(callTime))
	get(session, "", n.getSession)
	session.POST("", n.postSession)
	session.DELETE("", n.deleteSession)

	r.GET("/v1/stream", n.stream)
	get(r, "/v1/jobs/:id/file", n.authenticateFile, n.getFile)
	r.POST("/v1/jobs", timeLimit(bodyTime+callTime+maxWait), n.authenticate, n.postJob)

	v1 := r.Group("/v1", timeLimit(callTime), n.authenticate)
	get(v1, "/kinds", n.getKinds)
	get(v1, "/jobs", n.getJobs)
	get(v1, "/jobs/:id", n.getJob)
	v1.POST("/jobs/:id/cancel", n.cancelJob)
	v1.POST("/jobs/:id/retry", n.retryJob)
	v1.POST("/jobs/:id/file/link", n.postLink)
	get(v1, "/notifications", n.getNotifications)
	v1.POST("/notifications", n.postNotification)
	v1.POST("/notifications/read", n.readNotifications)
	v1.POST("/notifications/:id/read", n.readNotification)
	v1.DELETE("/notifications/:id", n.deleteNotification)
	v1.POST("/stream/ticket", n.postTicket)
	get(v1, "/revocations", n.getRevocations)
	v1.POST("/revocations", n.postRevocation)
	v1.DELETE("/revocations", n.deleteRevocation)
	return r
}

// get routes GET, and HEAD, which is the same without a body (RFC 9110, section 9.3.2): net/http drops it.
func get(r gin.IRoutes, path string, handlers ...gin.HandlerFunc) {
	r.GET(path, handlers...)
	r.HEAD(path, handlers...)
}

// callTime is how long a call may take that is neither a stream nor a download, nor waits for a job.
const callTime = 10 * time.Second

// timeLimit bounds how long a call may take, and a little longer, how long to read and write it may.
func timeLimit(within time.Duration) gin.HandlerFunc {
	return func(c *gin.Context) {
		ctx, cancel := context.WithTimeout(c.Request.Context(), within)
		defer cancel()
		// A connection that cannot have deadlines is a test's.
		control := http.NewResponseController(c.Writer)
		_ = control.SetReadDeadline(time.Now().Add(within + bodyTime))
		_ = control.SetWriteDeadline(time.Now().Add(within + bodyTime))
		c.Request = c.Request.WithContext(ctx)
		c.Next()
	}
}

// pageHeaders are the page's: it may not be framed, and nothing runs in it but what came with it.
func pageHeaders(page http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", web.CSP)
		h.Set("Referrer-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
		page.ServeHTTP(w, r)
	})
}
