package hark

import (
	"net"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/hark-jobs/hark/internal/health"
	"github.com/hark-jobs/hark/notifier"
	"github.com/hark-jobs/hark/notifier/auth"
	"github.com/hark-jobs/hark/queue"
)

// Register adds the API to r: /v1/… and /openapi.json, below the path of r, which may be any. See
// [notifier.Notifier.Register] for what it does and needs. Until [Server.Run] has started the parts, requests are
// answered with 503 and the code starting, and after it with 503 and the code shutting_down. It panics for a server without a notifier, and if one of the routes exists.
func (s *Server) Register(r gin.IRouter) { s.mustNotifier().Register(r.Group("", s.gate)) }

// RegisterPage adds the page to r, at the path of r with a slash at its end, and what pages load: hark.js and assets/… The
// page and hark.js look for the API at the path where they are. It panics for a server without a notifier, and if one of the
// routes exists.
func (s *Server) RegisterPage(r gin.IRouter) { s.mustNotifier().RegisterPage(r) }

// RegisterHealth adds the health checks to r: GET /livez and GET /readyz.
func (s *Server) RegisterHealth(r gin.IRouter) {
	r.GET(health.Live, gin.WrapF(s.health.ServeLive))
	r.GET(health.Ready, gin.WrapF(s.health.ServeReady))
}

// Stream returns a handler for a route of the program: the event stream of the user who makes the request, as GET /v1/stream. It listens to
// topics, and to those that the request names; the user must be permitted to. It panics for a server without a notifier.
func (s *Server) Stream(topics ...string) http.Handler {
	s.mustNotifier()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		inner, url, query := *r, *r.URL, r.URL.Query()
		query["topic"] = append(query["topic"], topics...)
		url.Path, url.RawPath, url.RawQuery = "/v1/stream", "", query.Encode()
		inner.URL = &url
		s.front.ServeHTTP(w, &inner)
	})
}

// gate lets requests through while the notifier runs.
func (s *Server) gate(c *gin.Context) {
	switch phase(s.phase.Load()) {
	case starting:
		notifier.Starting(c.Writer, c.Request)
		c.Abort()
	case ended:
		notifier.Stopping(c.Writer, c.Request)
		c.Abort()
	}
}

func (s *Server) mustNotifier() *notifier.Notifier {
	if s.notifier == nil {
		panic("hark: Options.Only leaves out the notifier")
	}
	return s.notifier
}

// Handler returns what answers at [Options].Listen: the API and the page at the root, the health checks, and, without
// [Options].Admin, the metrics of the process. It is for programs without a Gin router. [Options].MaxConnections and Deadlines
// are of Listen alone.
func (s *Server) Handler() http.Handler { return s.front }

// Describe implements [prometheus.Collector].
func (s *Server) Describe(ch chan<- *prometheus.Desc) {
	for _, m := range s.meters {
		m.Describe(ch)
	}
}

// Collect implements [prometheus.Collector].
func (s *Server) Collect(ch chan<- prometheus.Metric) {
	for _, m := range s.meters {
		m.Collect(ch)
	}
}

// meter adds metrics of hark.
func (s *Server) meter(cs ...prometheus.Collector) {
	s.meters = append(s.meters, cs...)
	s.health.Register(cs...)
}

// Queue returns a client of the NATS servers of this process, to enqueue jobs, follow them and notify users without HTTP. It
// works from [New] until the server closes.
func (s *Server) Queue() *queue.Client { return queue.New(s.store) }

// EndSession ends the open streams of the identities with this ID, for a program with a login of its own.
func (s *Server) EndSession(id string) {
	if s.hub != nil {
		s.hub.EndToken(id)
	}
}

// EndUser ends the open streams of the identities of user that were issued up to a time.
func (s *Server) EndUser(user string, upTo time.Time) {
	if s.hub != nil {
		s.hub.EndUser(user, upTo)
	}
}

// Issuer returns an issuer of JWTs that the server accepts. It returns an error without [Options].JWTSecret, unless callers
// need no keys.
func (s *Server) Issuer() (*auth.Issuer, error) {
	o := &s.options
	issuer := auth.IssuerOptions{Secret: s.secret, Issuer: o.JWTIssuer, UserClaim: o.UserClaim, Scopes: o.ScopeMap, MaxAge: o.MaxTokenAge}
	if len(o.JWTAudience) > 0 {
		issuer.Audience = o.JWTAudience[0]
	}
	return auth.NewIssuer(issuer)
}

// NoKey reports whether anybody signs in under any name, since there is nothing to verify JWTs with.
func (s *Server) NoKey() bool { return s.options.notifies() && s.options.noKey() }

// URL returns the URL of [Options].Listen, or "" without it.
func (s *Server) URL() string {
	if s.front.listener == nil {
		return ""
	}
	host, port, _ := net.SplitHostPort(s.front.listener.Addr().String())
	if configured, _, _ := net.SplitHostPort(s.options.Listen); configured == "localhost" {
		host = configured
	}
	scheme := "http://"
	if s.certificate != nil {
		scheme = "https://"
	}
	return scheme + net.JoinHostPort(host, port)
}

// AdminURL returns the URL for operators, or "" without [Options].Admin.
func (s *Server) AdminURL() string {
	if s.admin == nil {
		return ""
	}
	return "http://" + s.admin.Addr().String()
}

// NATSURL returns the URL on which the embedded NATS server accepts connections, or "".
func (s *Server) NATSURL() string {
	if s.natsd == nil {
		return ""
	}
	return s.natsd.URL()
}
