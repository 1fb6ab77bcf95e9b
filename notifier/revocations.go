package notifier

import (
	"net/http"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/hark-jobs/hark/notifier/auth"
)

// maxRevocations is how many are listed at most.
const maxRevocations = 1000

// revocation is one as its reader sees it.
type revocation struct {
	User      string    `json:"user,omitempty"`
	JTI       string    `json:"jti,omitempty"`
	RevokedAt time.Time `json:"revoked_at"`
}

// mayRevoke answers why the caller may not see or change revocations.
func (n *Notifier) mayRevoke(c *gin.Context) bool {
	if !identity(c).Has(auth.ScopeAdmin) {
		n.fail(c, newProblem(http.StatusForbidden, "scope_missing", "Your token needs the scope admin for this."))
		return false
	}
	return true
}

// postRevocation refuses, from now on and everywhere, the tokens that a user has, or the one with a jti.
func (n *Notifier) postRevocation(c *gin.Context) {
	if !n.mayRevoke(c) {
		return
	}
	var body struct {
		User string `json:"user"`
		JTI  string `json:"jti"`
	}
	err := decode(c, &body)
	if err == nil {
		err = n.stores()
	}
	if err == nil {
		err = checkRevocable(body.User, body.JTI)
	}
	if err != nil {
		n.fail(c, err)
		return
	}
	r, err := n.revoked.Revoke(c.Request.Context(), body.User, body.JTI)
	if err != nil {
		n.fail(c, err)
		return
	}
	n.log.Info("revoked", "request_id", requestID(c), "by", user(c), "user", r.User, "jti", r.ID)
	c.JSON(http.StatusCreated, revocation{r.User, r.ID, r.RevokedAt})
}

// deleteRevocation takes one back.
func (n *Notifier) deleteRevocation(c *gin.Context) {
	if !n.mayRevoke(c) {
		return
	}
	name, id := c.Query("user"), c.Query("jti")
	err := checkRevocable(name, id)
	if err == nil {
		err = n.stores()
	}
	var found bool
	if err == nil {
		found, err = n.revoked.Lift(c.Request.Context(), name, id)
	}
	if err == nil && !found {
		err = newProblem(http.StatusNotFound, "revocation_not_found", "Nothing like that is revoked.")
	}
	if err != nil {
		n.fail(c, err)
		return
	}
	n.log.Info("revocation lifted", "request_id", requestID(c), "by", user(c), "user", name, "jti", id)
	c.Status(http.StatusNoContent)
}

// getRevocations lists them, or the one of a user or jti.
func (n *Notifier) getRevocations(c *gin.Context) {
	if !n.mayRevoke(c) {
		return
	}
	name, id := c.Query("user"), c.Query("jti")
	page := struct {
		Revocations []revocation `json:"revocations"`
		More        bool         `json:"more,omitempty"`
	}{Revocations: []revocation{}}
	for _, r := range n.revoked.List() {
		if name != "" && r.User != name || id != "" && r.ID != id {
			continue
		}
		if page.More = len(page.Revocations) == maxRevocations; page.More {
			break
		}
		page.Revocations = append(page.Revocations, revocation{r.User, r.ID, r.RevokedAt})
	}
	c.JSON(http.StatusOK, page)
}

func checkRevocable(user, id string) error {
	if user != "" {
		if err := checkUser(user); err != nil {
			return err
		}
	}
	return auth.CheckRevocable(user, id)
}
