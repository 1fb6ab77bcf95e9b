package notifier

import (
	"net/http"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/hark-jobs/hark/notifier/auth"
)

// sessionTTL is the lifetime of a session that was begun with a name alone.
const sessionTTL = 30 * 24 * time.Hour

type session struct {
	User      string    `json:"user"`
	Scope     string    `json:"scope"`
	ExpiresAt time.Time `json:"expires_at,omitzero"`
	SignIn    signIn    `json:"sign_in"`
}

// signIn is how users sign in.
type signIn string

const (
	byName        signIn = "name"        // anybody, by naming themselves
	byToken       signIn = "token"       // with a token, which POST /v1/session stores in the cookie
	byApplication signIn = "application" // in the embedding program: this API cannot begin or end a session
)

func (n *Notifier) signIn() signIn {
	switch {
	case n.verifier == nil:
		return byApplication
	case n.naming != nil:
		return byName
	}
	return byToken
}

func (n *Notifier) session(id auth.Identity) answer {
	return answer{http.StatusOK, session{id.User, strings.Join(id.Scope, " "), id.ExpiresAt, n.signIn()}}
}

func (n *Notifier) getSession(c *gin.Context) (answer, error) {
	id, err := n.verify(c)
	if err != nil {
		return answer{}, err
	}
	return n.session(id), nil
}

// postSession signs a caller in with a name alone, or stores the bearer token of the call in the cookie.
func (n *Notifier) postSession(c *gin.Context) (answer, error) {
	token, fromCookie := auth.FromRequest(c.Request)
	if token != "" && !fromCookie {
		id, err := n.verify(c)
		if err != nil {
			return answer{}, err
		}
		return n.startSession(c, token, id)
	}
	if n.naming == nil {
		return answer{}, newProblem(http.StatusForbidden, "naming_disabled", "This server accepts tokens only; sign in to the application that issues them.")
	}
	if err := n.origins.Check(c.Request); err != nil && (c.GetHeader("Origin") != "" || c.GetHeader("Sec-Fetch-Site") != "") {
		return answer{}, err // pages of other sites must not begin sessions
	}
	var body struct {
		User string `json:"user"`
	}
	if err := decode(c, &body); err != nil {
		return answer{}, err
	}
	if err := checkUser(body.User); err != nil {
		return answer{}, err
	}
	token, id, err := n.naming.Issue(body.User, nil, sessionTTL)
	if err != nil {
		return answer{}, err
	}
	return n.startSession(c, token, id)
}

func (n *Notifier) startSession(c *gin.Context, token string, id auth.Identity) (answer, error) {
	if err := auth.SetCookie(c.Writer, c.Request, token, id); err != nil {
		return answer{}, err
	}
	return n.session(id), nil
}

func (n *Notifier) deleteSession(c *gin.Context) (answer, error) {
	if _, fromCookie := auth.FromRequest(c.Request); fromCookie {
		if err := n.origins.Check(c.Request); err != nil {
			return answer{}, err
		}
	}
	auth.ClearCookie(c.Writer, c.Request)
	return answer{status: http.StatusNoContent}, nil
}
