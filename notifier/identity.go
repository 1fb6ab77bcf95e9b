package notifier

import (
	"errors"
	"net/http"
	"regexp"
	"runtime/debug"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/gin-gonic/gin"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/notifier/auth"
	"github.com/oklog/ulid/v2"
)

const identityKey = "hark.identity"

const requestIDHeader = "X-Request-Id"

// Values of headers of every response. Header.Set would allocate a slice for each response.
var (
	nosniff = []string{"nosniff"}
	noStore = []string{"no-store"}
)

var requestIDPattern = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// assignRequestID gives each request an id, and each response the headers that all have. The id is the one that the
// embedding program has set in the response, else a valid one of the caller, else a new one.
func (m *mount) assignRequestID(c *gin.Context) {
	header := c.Writer.Header()
	if header.Get(requestIDHeader) == "" {
		id := c.GetHeader(requestIDHeader)
		if id == "" || !requestIDPattern.MatchString(id) {
			id = ulid.Make().String()
		}
		header[requestIDHeader] = []string{id}
	}
	header["X-Content-Type-Options"] = nosniff
	if m.bodyTimeout > 0 {
		c.Set(bodyTimeoutKey, m.bodyTimeout)
	}
	if route := m.route(c); route == "" || strings.HasPrefix(route, "/v1/") {
		header["Cache-Control"] = noStore
	}
}

func requestID(c *gin.Context) string { return c.Writer.Header().Get(requestIDHeader) }

// recoverPanic responds with 500 when a handler has panicked. If the handler had begun to respond, recoverPanic breaks
// the connection, so that the client notices that the response is incomplete.
func (n *Notifier) recoverPanic(c *gin.Context, v any) {
	n.log.Error("handler panicked", "request_id", requestID(c), "route", c.FullPath(), "panic", v, "stack", string(debug.Stack()))
	if c.Writer.Written() {
		// The embedding program may recover from the panic. Then net/http would end the response as if it were complete.
		_ = http.NewResponseController(c.Writer).SetWriteDeadline(time.Unix(1, 0))
		panic(http.ErrAbortHandler)
	}
	n.fail(c, newInternalProblem())
}

// cors sets the headers of [auth.Origins.CORS] and answers preflights.
func (n *Notifier) cors(c *gin.Context) {
	if n.origins.CORS(c.Writer.Header(), c.Request) {
		c.AbortWithStatus(http.StatusNoContent)
	}
}

// authenticate refuses a request without a valid identity. The handlers after it call [identity].
func (n *Notifier) authenticate(c *gin.Context) {
	id, err := n.verify(c)
	if err != nil {
		n.fail(c, err)
		return
	}
	c.Set(identityKey, id)
	c.Next()
}

// verify returns the identity of the caller. It counts the request for the caller's rate limit. If the browser has sent
// the credential by itself, verify checks the origin of the calling page, too.
func (n *Notifier) verify(c *gin.Context) (auth.Identity, error) {
	id, err := n.authenticator.Authenticate(c.Request)
	if err == nil && n.verifier == nil { // the verifier has done these checks
		err = n.checkForeign(&id)
	}
	if err == nil && id.FromCookie {
		err = n.origins.Check(c.Request)
	}
	if err == nil && !id.Service() {
		err = n.requests.take(id.User)
	}
	if err != nil {
		return auth.Identity{}, n.withSignIn(err)
	}
	return id, nil
}

// withSignIn adds to a 401 how a user signs in.
func (n *Notifier) withSignIn(err error) error {
	p := *problemOf(err)
	if p.Status == http.StatusUnauthorized {
		p.SignIn, p.SignInURL = n.signIn(), n.signInURL
	}
	return errors.Join(&p, err)
}

// identity returns the caller of a request that has passed authenticate. It panics for others.
func identity(c *gin.Context) *auth.Identity {
	id, _ := c.MustGet(identityKey).(auth.Identity)
	return &id
}

func user(c *gin.Context) string { return identity(c).User }

// checkUser refuses names that no user can have. encoding/json replaces invalid UTF-8 with U+FFFD, so that no token may
// have U+FFFD.
func checkUser(name string) error {
	if strings.ContainsRune(name, utf8.RuneError) {
		return newProblem(http.StatusBadRequest, "invalid_request", "user must be valid UTF-8.").in("user")
	}
	return jobs.CheckUser(name)
}
