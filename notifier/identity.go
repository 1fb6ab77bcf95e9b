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

// Values of headers that every response has. Header.Set would make a slice for each response.
var (
	nosniff = []string{"nosniff"}
	noStore = []string{"no-store"}
)

var requestIDPattern = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// identify gives each request an id, its caller's if it has a decent one, and each response the headers
// that all have.
func (n *Notifier) identify(c *gin.Context) {
	id := c.GetHeader(requestIDHeader)
	if id == "" || !requestIDPattern.MatchString(id) {
		id = ulid.Make().String()
	}
	header := c.Writer.Header()
	header[requestIDHeader] = []string{id}
	header["X-Content-Type-Options"] = nosniff
	if n.bodyTime > 0 {
		c.Set(bodyTimeKey, n.bodyTime)
	}
	if strings.HasPrefix(c.Request.URL.Path, "/v1/") {
		header["Cache-Control"] = noStore
	}
}

func requestID(c *gin.Context) string { return c.Writer.Header().Get(requestIDHeader) }

// recovered answers for a handler that panicked. If it had begun to answer, all that is left is to break the
// connection off, so that nobody takes the half for the whole.
func (n *Notifier) recovered(c *gin.Context, v any) {
	n.log.Error("panic", "request_id", requestID(c), "route", c.FullPath(), "panic", v, "stack", string(debug.Stack()))
	if c.Writer.Written() {
		panic(http.ErrAbortHandler)
	}
	n.fail(c, newProblem(http.StatusInternalServerError, "internal", "Something went wrong here; the log knows more under the request's id."))
}

func (n *Notifier) cors(c *gin.Context) {
	if n.origins.CORS(c.Writer.Header(), c.Request) {
		c.AbortWithStatus(http.StatusNoContent)
	}
}

// authenticate lets a request pass that has a valid token, and if that is a cookie's, comes from a page
// that may use it.
func (n *Notifier) authenticate(c *gin.Context) {
	if id, ok := n.verify(c); ok {
		c.Set(identityKey, id)
		c.Next()
	}
}

// verify returns who is asking, or answers why nobody is, or that they ask too often.
func (n *Notifier) verify(c *gin.Context) (auth.Identity, bool) {
	token, fromCookie := auth.FromRequest(c.Request)
	id, err := n.verifier.Verify(c.Request.Context(), token)
	if err == nil && fromCookie {
		id.FromCookie = true
		err = n.origins.Check(c.Request)
	}
	if err == nil && !id.Service() {
		err = n.requests.take(id.User)
	}
	if err != nil {
		n.fail(c, n.withNaming(err))
		return auth.Identity{}, false
	}
	return id, true
}

// withNaming tells who is not signed in that naming themselves would do.
func (n *Notifier) withNaming(err error) error {
	p := *problemOf(err)
	p.Naming = n.naming != nil && p.Status == http.StatusUnauthorized
	return errors.Join(&p, err)
}

func identity(c *gin.Context) *auth.Identity {
	id, _ := c.MustGet(identityKey).(auth.Identity)
	return &id
}

func user(c *gin.Context) string { return identity(c).User }

// checkUser refuses who can never sign in. U+FFFD is what broken text becomes on its way through JSON, so
// no token may have it.
func checkUser(name string) error {
	if strings.ContainsRune(name, utf8.RuneError) {
		return newProblem(http.StatusBadRequest, "invalid_request", "user must be text without broken characters.").in("user")
	}
	return jobs.CheckUser(name)
}

// sessionTTL is how long somebody who named themselves stays signed in.
const sessionTTL = 30 * 24 * time.Hour

type session struct {
	User      string    `json:"user"`
	Scope     string    `json:"scope"`
	ExpiresAt time.Time `json:"expires_at"`
	Naming    bool      `json:"naming"`
}

func (n *Notifier) answerSession(c *gin.Context, id auth.Identity) {
	c.JSON(http.StatusOK, session{id.User, strings.Join(id.Scope, " "), id.ExpiresAt, n.naming != nil})
}

func (n *Notifier) getSession(c *gin.Context) {
	if id, ok := n.verify(c); ok {
		n.answerSession(c, id)
	}
}

// postSession signs in who names themselves, or puts the bearer token of a web app's call into the cookie.
func (n *Notifier) postSession(c *gin.Context) {
	token, fromCookie := auth.FromRequest(c.Request)
	if token != "" && !fromCookie {
		if id, ok := n.verify(c); ok {
			n.startSession(c, token, id)
		}
		return
	}
	if n.naming == nil {
		n.fail(c, newProblem(http.StatusForbidden, "naming_disabled", "Sign in where you came from: this server accepts tokens only."))
		return
	}
	if err := n.origins.Check(c.Request); err != nil && (c.GetHeader("Origin") != "" || c.GetHeader("Sec-Fetch-Site") != "") {
		n.fail(c, err) // another site's page signs nobody in
		return
	}
	var body struct {
		User string `json:"user"`
	}
	if err := decode(c, &body); err != nil {
		n.fail(c, err)
		return
	}
	if err := checkUser(body.User); err != nil {
		n.fail(c, err)
		return
	}
	token, id, err := n.naming.Issue(body.User, nil, sessionTTL)
	if err != nil {
		n.fail(c, err)
		return
	}
	n.startSession(c, token, id)
}

func (n *Notifier) startSession(c *gin.Context, token string, id auth.Identity) {
	if err := auth.SetCookie(c.Writer, c.Request, token, id); err != nil {
		n.fail(c, err)
		return
	}
	n.answerSession(c, id)
}

func (n *Notifier) deleteSession(c *gin.Context) {
	if _, fromCookie := auth.FromRequest(c.Request); fromCookie {
		if err := n.origins.Check(c.Request); err != nil {
			n.fail(c, err)
			return
		}
	}
	auth.ClearCookie(c.Writer, c.Request)
	c.Status(http.StatusNoContent)
}
