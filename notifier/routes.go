package notifier

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/hark-jobs/hark/notifier/web"
)

// ServeHTTP implements [http.Handler] for a whole server: the API and the page at the root, and problems for all other
// paths and methods. A program with routes of its own calls [Notifier.Register] instead.
func (n *Notifier) ServeHTTP(w http.ResponseWriter, r *http.Request) { n.handler().ServeHTTP(w, r) }

// newRouter returns the router of a whole server.
func (n *Notifier) newRouter() http.Handler {
	r := gin.New()
	r.HandleMethodNotAllowed = true
	r.RedirectTrailingSlash = false // its redirects would bypass the middleware
	n.Register(r)
	n.RegisterPage(r)
	middleware := (&mount{Notifier: n}).middleware()
	r.NoRoute(append(middleware, func(c *gin.Context) {
		n.fail(c, newProblem(http.StatusNotFound, "not_found", "This path does not exist; see openapi.json."))
	})...)
	r.NoMethod(append(middleware, func(c *gin.Context) {
		n.fail(c, newProblem(http.StatusMethodNotAllowed, "method_not_allowed", "This path does not accept "+c.Request.Method+"; see openapi.json."))
	})...)
	return r
}

// Register adds the API to r: /v1/… and /openapi.json, below the path of r, which may be any. [Options] say when there
// are routes for sessions, tickets and revocations. The middleware of r runs first. Hark's own (request ids, metrics,
// recovery, CORS, and the checks of [Options.Naming]) runs on these routes alone. Other paths and methods of the router
// do not change. Each path also accepts OPTIONS, for the preflights of [Options.Origins].
//
// Responses contain no path above hark's own: Location is relative to the request, and the url of a link to a file is
// relative to the path of r. So a proxy may change the path, too.
//
// Streams take their connections over where possible (HTTP/1.1 without TLS), and end with [sse.Hub.Run]. They need an
// [http.ResponseWriter] that writes without delay: no compression and no [http.TimeoutHandler] around it.
//
// Register panics, as Gin does, if r has one of the routes.
func (n *Notifier) Register(r gin.IRouter) {
	m, api := n.mount(r)
	api.get("/openapi.json", m.openapi)

	session := timeLimit(callTime)
	api.get("/v1/session", session, m.handle(m.getSession))
	if m.verifier != nil {
		api.add(http.MethodPost, "/v1/session", session, m.handle(m.postSession))
		api.add(http.MethodDelete, "/v1/session", session, m.handle(m.deleteSession))
	}

	api.add(http.MethodGet, "/v1/stream", m.handle(m.stream))
	api.add(http.MethodGet, "/v1/events", timeLimit(maxPoll+callTime), m.handle(m.getEvents)) // no HEAD: it would consume events
	api.get("/v1/jobs/:id/file", m.authenticateFile, m.handle(m.getFile))
	api.add(http.MethodPost, "/v1/jobs", timeLimit(bodyTimeout+callTime+maxWait), m.authenticate, m.refuseReadOnly, m.handle(m.postJob))

	call := []gin.HandlerFunc{timeLimit(callTime), m.authenticate}
	get := func(path string, h handler) { api.get(path, with(call, m.handle(h))...) }
	get("/v1/kinds", m.getKinds)
	get("/v1/topics/:topic", m.getTopic)
	get("/v1/jobs", m.getJobs)
	get("/v1/jobs/:id", m.getJob)
	get("/v1/notifications", m.getNotifications)
	api.add(http.MethodPost, "/v1/jobs/:id/file/link", with(call, m.handle(m.postLink))...)
	if m.tickets != nil {
		api.add(http.MethodPost, "/v1/stream/ticket", with(call, m.handle(m.postTicket))...)
	}

	api.add(http.MethodPost, "/v1/events", with(call, m.handle(m.postEvent))...) // also in read-only mode: nothing is stored

	change := func(method, path string, h handler) {
		api.add(method, path, with(call, m.refuseReadOnly, m.handle(h))...)
	}
	change(http.MethodPost, "/v1/jobs/:id/cancel", m.cancelJob)
	change(http.MethodPost, "/v1/jobs/:id/retry", m.retryJob)
	change(http.MethodDelete, "/v1/jobs/:id/file", m.deleteFile)
	change(http.MethodPost, "/v1/notifications", m.postNotification)
	change(http.MethodPost, "/v1/notifications/read", m.readNotifications)
	change(http.MethodPost, "/v1/notifications/:id/read", m.readNotification)
	change(http.MethodDelete, "/v1/notifications/:id", m.deleteNotification)
	if m.revoked != nil {
		get("/v1/revocations", m.getRevocations)
		change(http.MethodPost, "/v1/revocations", m.postRevocation)
		change(http.MethodDelete, "/v1/revocations", m.deleteRevocation)
	}
	api.options()
}

// RegisterPage adds the page to r, at the path of r with a slash at its end, with hark.js and assets/… The page and
// hark.js look for the API at their own path: register it on the same r, or on one with the same path.
//
// RegisterPage panics, as Gin does, if r has one of the routes.
func (n *Notifier) RegisterPage(r gin.IRouter) {
	_, pages := n.mount(r)
	page := pageHeaders(web.Handler())
	serve := func(c *gin.Context, path string) {
		// The handler of package web knows paths without the prefix.
		inner := *c.Request
		url := *c.Request.URL
		url.Path, url.RawPath, inner.URL = path, "", &url
		page.ServeHTTP(c.Writer, &inner)
	}
	pages.get("/", func(c *gin.Context) { serve(c, "/") })
	pages.get("/hark.js", func(c *gin.Context) { serve(c, "/hark.js") })
	pages.get("/assets/*file", func(c *gin.Context) { serve(c, "/assets"+param(c, "file")) })
	pages.options()
}

// param returns the value of a path parameter. If there are several, it is the last one: the path of the group that hark
// is registered on may have a parameter with the same name.
func param(c *gin.Context, name string) string {
	for _, p := range slices.Backward(c.Params) {
		if p.Key == name {
			return p.Value
		}
	}
	return ""
}

// with returns a new list of first and more.
func with(first []gin.HandlerFunc, more ...gin.HandlerFunc) []gin.HandlerFunc {
	return append(slices.Clip(first), more...)
}

// mount is a router that a notifier's routes are registered on.
type mount struct {
	*Notifier
	prefix string // the path of the router, which the names of routes omit
}

// mount returns the mount of r, and the routes to add to.
func (n *Notifier) mount(r gin.IRouter) (*mount, *routes) {
	m := &mount{Notifier: n}
	group := r.Group("", m.middleware()...)
	m.prefix = strings.TrimSuffix(group.BasePath(), "/")
	return m, &routes{group, make(map[string][]string)}
}

// middleware returns the middleware of all routes.
func (m *mount) middleware() []gin.HandlerFunc {
	return []gin.HandlerFunc{m.assignRequestID, m.measure, gin.CustomRecoveryWithWriter(nil, m.recoverPanic), m.local, m.cors}
}

// route returns the name of a request's route. It does not depend on the prefix, and is empty if there is no route.
func (m *mount) route(c *gin.Context) string { return strings.TrimPrefix(c.FullPath(), m.prefix) }

// routes registers routes and remembers the methods of each path.
type routes struct {
	group   *gin.RouterGroup
	methods map[string][]string
}

func (r *routes) add(method, path string, handlers ...gin.HandlerFunc) {
	r.group.Handle(method, path, handlers...)
	r.methods[path] = append(r.methods[path], method)
}

// get adds a route for GET, and for HEAD, which is GET without a body (RFC 9110, section 9.3.2): net/http discards the
// body.
func (r *routes) get(path string, handlers ...gin.HandlerFunc) {
	r.add(http.MethodGet, path, handlers...)
	r.add(http.MethodHead, path, handlers...)
}

// options adds a route for OPTIONS to each path. The middleware answers preflights, and Gin does not run it for a method
// without a route.
func (r *routes) options() {
	for path, methods := range r.methods {
		allow := strings.Join(append(methods, http.MethodOptions), ", ")
		r.group.OPTIONS(path, func(c *gin.Context) {
			c.Header("Allow", allow) // RFC 9110, section 9.3.7
			c.Status(http.StatusNoContent)
		})
	}
}

// callTime is the timeout of a request that is neither a stream nor a download, and does not wait for a job.
const callTime = 10 * time.Second

// timeLimit sets the timeout of a request's context. The deadlines for reading and writing are a little later.
func timeLimit(timeout time.Duration) gin.HandlerFunc {
	return func(c *gin.Context) {
		ctx, cancel := context.WithTimeout(c.Request.Context(), timeout)
		defer cancel()
		// Only the connections of tests do not support deadlines.
		control := http.NewResponseController(c.Writer)
		_ = control.SetReadDeadline(time.Now().Add(timeout + bodyTimeout))
		_ = control.SetWriteDeadline(time.Now().Add(timeout + bodyTimeout))
		c.Request = c.Request.WithContext(ctx)
		c.Next()
	}
}

// pageHeaders sets the security headers of the page: it cannot be framed, and runs only its own scripts.
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
