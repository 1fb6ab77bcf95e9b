package notifier

import (
	"cmp"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/hark-jobs/hark/notifier/auth"
	"github.com/hark-jobs/hark/notifier/sse"
)

func (n *Notifier) stream(c *gin.Context) {
	if c.Request.ContentLength != 0 {
		n.fail(c, newProblem(http.StatusBadRequest, "body_unexpected", "The stream takes no body; send the request without one."))
		return
	}
	var id auth.Identity
	var ticket string
	last := c.GetHeader("Last-Event-Id")
	if c.Request.URL.RawQuery != "" { // which few have; asking gin costs a map
		ticket = c.Query("ticket")
		last = cmp.Or(last, c.Query("last_event_id"))
	}
	if ticket != "" {
		var err error
		if id, err = n.tickets.Redeem(c.Request.Context(), ticket); err != nil {
			n.fail(c, err)
			return
		}
	} else {
		var ok bool
		if id, ok = n.verify(c); !ok {
			return
		}
	}
	err := n.hub.Serve(c.Writer, c.Request, sse.Subscriber{
		User: id.User, LastEventID: last, Expires: id.ExpiresAt, TokenID: id.ID, IssuedAt: id.IssuedAt,
		// Also of a ticket whose token was revoked since, and of a token that is revoked right now.
		Check: func() error { return n.revoked.Check(&id) },
	})
	if err != nil {
		n.fail(c, err)
	}
}

func (n *Notifier) postTicket(c *gin.Context) {
	ticket, expires, err := n.tickets.Issue(c.Request.Context(), *identity(c))
	if err != nil {
		n.fail(c, err)
		return
	}
	c.JSON(http.StatusCreated, struct {
		Ticket    string    `json:"ticket"`
		ExpiresAt time.Time `json:"expires_at"`
	}{ticket, expires})
}
