package notifier

import (
	"net/http"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/hark-jobs/hark/notifier/auth"
)

// maxRevocations is the largest number of revocations in a response.
const maxRevocations = 1000

// revocation is a revocation in a response.
type revocation struct {
	User      string    `json:"user,omitempty"`
	JTI       string    `json:"jti,omitempty"`
	RevokedAt time.Time `json:"revoked_at"`
}

// mayRevoke returns a problem if the caller may not see and change revocations.
func (n *Notifier) mayRevoke(c *gin.Context) error {
	if !identity(c).Has(auth.ScopeAdmin) {
		return newProblem(http.StatusForbidden, "scope_missing", "Your token needs the scope admin for this.")
	}
	return nil
}

// postRevocation revokes all tokens that a user has now, or the token with a jti, on all notifiers.
func (n *Notifier) postRevocation(c *gin.Context) (answer, error) {
	if err := n.mayRevoke(c); err != nil {
		return answer{}, err
	}
	var body struct {
		User string `json:"user"`
		JTI  string `json:"jti"`
	}
	err := decode(c, &body)
	if err == nil {
		err = n.checkAccepting()
	}
	if err == nil {
		err = checkRevocable(body.User, body.JTI)
	}
	if err != nil {
		return answer{}, err
	}
	r, err := n.revoked.Revoke(c.Request.Context(), body.User, body.JTI)
	if err != nil {
		return answer{}, err
	}
	n.log.Info("tokens revoked", "request_id", requestID(c), "by", user(c), "user", r.User, "jti", r.ID)
	return answer{http.StatusCreated, revocation{r.User, r.ID, r.RevokedAt}}, nil
}

// deleteRevocation lifts a revocation.
func (n *Notifier) deleteRevocation(c *gin.Context) (answer, error) {
	if err := n.mayRevoke(c); err != nil {
		return answer{}, err
	}
	name, id := c.Query("user"), c.Query("jti")
	err := checkRevocable(name, id)
	if err == nil {
		err = n.checkAccepting()
	}
	var found bool
	if err == nil {
		found, err = n.revoked.Lift(c.Request.Context(), name, id)
	}
	if err == nil && !found {
		err = newProblem(http.StatusNotFound, "revocation_not_found", "Revocation not found.")
	}
	if err != nil {
		return answer{}, err
	}
	n.log.Info("revocation lifted", "request_id", requestID(c), "by", user(c), "user", name, "jti", id)
	return answer{status: http.StatusNoContent}, nil
}

// getRevocations lists all revocations, or the one of a user or jti.
func (n *Notifier) getRevocations(c *gin.Context) (answer, error) {
	if err := n.mayRevoke(c); err != nil {
		return answer{}, err
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
		if len(page.Revocations) == maxRevocations {
			page.More = true
			break
		}
		page.Revocations = append(page.Revocations, revocation{r.User, r.ID, r.RevokedAt})
	}
	return answer{http.StatusOK, page}, nil
}

func checkRevocable(user, id string) error {
	if user != "" {
		if err := checkUser(user); err != nil {
			return err
		}
	}
	return auth.CheckRevocable(user, id)
}
