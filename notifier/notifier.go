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

// Options of a notifier. The first five are required.
type Options struct {
	Queue    *jobs.Queue
	Inbox    *inbox.Store
	Hub      *sse.Hub
	Verifier *auth.Verifier
	Tickets  *auth.Tickets
	// Healthy says whether the queue stores what it is given, where that can be known; nil means that it cannot.
	Healthy func() error
	// Origins may call with the cookie; nil means the page's own alone.
	Origins *auth.Origins
	// Naming, if set, signs in whoever names themselves. It must be nil wherever strangers can connect.
	Naming *auth.Issuer
	// RateLimit is how many requests a second each user may make, ten times as many after a rest, and a fifth
	// of that for jobs to be enqueued. 0 means no limit. Services, with scope notify or admin, have none.
	RateLimit float64
	Log       *slog.Logger // slog.Default()
}

// Notifier answers HTTP requests. It is safe for concurrent use. It is a [prometheus.Collector] of its metrics.
type Notifier struct {
	queue    *jobs.Queue
	inbox    *inbox.Store
	hub      *sse.Hub
	verifier *auth.Verifier
	tickets  *auth.Tickets
	healthy  func() error
	origins  *auth.Origins
	naming   *auth.Issuer
	requests *limiter
	enqueues *limiter
	gates    gates
	log      *slog.Logger
	meter    meter
	handler  http.Handler
	draining atomic.Bool
}

// New checks the options and makes a notifier of them. It starts nothing: the hub and the inbox's filler
// are run by whoever made them.
func New(o Options) (*Notifier, error) {
	if o.Queue == nil || o.Inbox == nil || o.Hub == nil || o.Verifier == nil || o.Tickets == nil {
		return nil, errors.New("notifier: needs a queue, an inbox, a hub, a verifier and tickets")
	}
	if o.Log == nil {
		o.Log = slog.Default()
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
		queue: o.Queue, inbox: o.Inbox, hub: o.Hub, verifier: o.Verifier, tickets: o.Tickets,
		healthy: o.Healthy, origins: o.Origins, naming: o.Naming,
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
	r.Use(n.identify, n.measure, gin.CustomRecoveryWithWriter(nil, n.recovered), n.cors)
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
	get(r, "/v1/jobs/:id/file", n.authenticate, n.getFile)
	r.POST("/v1/jobs", timeLimit(bodyTime+callTime+maxWait), n.authenticate, n.postJob)

	v1 := r.Group("/v1", timeLimit(callTime), n.authenticate)
	get(v1, "/kinds", n.getKinds)
	get(v1, "/jobs", n.getJobs)
	get(v1, "/jobs/:id", n.getJob)
	v1.POST("/jobs/:id/cancel", n.cancelJob)
	v1.POST("/jobs/:id/retry", n.retryJob)
	get(v1, "/notifications", n.getNotifications)
	v1.POST("/notifications", n.postNotification)
	v1.POST("/notifications/read", n.readNotifications)
	v1.POST("/notifications/:id/read", n.readNotification)
	v1.DELETE("/notifications/:id", n.deleteNotification)
	v1.POST("/stream/ticket", n.postTicket)
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
