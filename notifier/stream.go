package notifier

import (
	"cmp"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/hark-jobs/hark/notifier/auth"
	"github.com/hark-jobs/hark/notifier/sse"
)

func (n *Notifier) stream(c *gin.Context) (answer, error) {
	last, ticket := c.GetHeader("Last-Event-Id"), ""
	if c.Request.URL.RawQuery != "" { // few have one, and c.Query allocates a map
		ticket = c.Query("ticket")
		last = cmp.Or(last, c.Query("last_event_id"))
	}
	sub, err := n.subscriber(c, ticket)
	if err != nil {
		return answer{}, err
	}
	sub.LastEventID = last
	return answer{}, n.hub.Serve(c.Writer, c.Request, sub)
}

// defaultPoll and maxPoll are how long a poll waits for an event. Proxies close connections that are silent for longer.
const (
	defaultPoll = 25 * time.Second
	maxPoll     = 30 * time.Second
)

func (n *Notifier) getEvents(c *gin.Context) (answer, error) {
	wait := defaultPoll
	if text := c.Query("wait"); text != "" {
		seconds, err := strconv.Atoi(text)
		wait = time.Duration(seconds) * time.Second
		if err != nil || seconds < 0 || wait > maxPoll {
			return answer{}, newProblem(http.StatusBadRequest, "wait_invalid", "wait must be 0 to 30 seconds.").in("wait")
		}
	}
	sub, err := n.subscriber(c, c.Query("ticket"))
	if err != nil {
		return answer{}, err
	}
	sub.LastEventID = c.Query("after")
	events, err := n.hub.Poll(c.Request.Context(), sse.Poll{Subscriber: sub, Stream: c.Query("stream"), Wait: wait})
	return answer{http.StatusOK, events}, err
}

// subscriber returns the subscriber of a request for events: the user of its ticket, or else its caller.
func (n *Notifier) subscriber(c *gin.Context, ticket string) (sub sse.Subscriber, err error) {
	if c.Request.ContentLength != 0 {
		return sub, newProblem(http.StatusBadRequest, "body_unexpected", "The stream accepts no body; send the request without one.")
	}
	var id auth.Identity
	switch {
	case ticket == "":
		id, err = n.verify(c)
	case n.tickets == nil:
		err = &auth.Error{Code: auth.CodeTicketInvalid, Detail: "This server does not use tickets; connect without one."}
	default:
		id, err = n.tickets.Redeem(c.Request.Context(), ticket)
	}
	if err != nil {
		return sub, err
	}
	topics, err := n.topics(c, &id)
	if err != nil {
		return sub, err
	}
	return sse.Subscriber{
		User: id.User, Topics: topics, Expires: id.ExpiresAt, TokenID: id.ID, IssuedAt: id.IssuedAt,
		// The token may have been revoked since the ticket was issued, or since it was verified.
		Check: func() error { return n.revoked.Check(&id) },
	}, nil
}

func (n *Notifier) postTicket(c *gin.Context) (answer, error) {
	if err := n.checkWritable(); err != nil {
		return answer{}, err
	}
	// The identity of a ticket has no claims, so a rule that needs some must hold now.
	id := *identity(c)
	topics, err := n.topics(c, &id)
	if err != nil {
		return answer{}, err
	}
	id.Topics = append(slices.Clip(id.Topics), topics...)
	ticket, expires, err := n.tickets.Issue(c.Request.Context(), id)
	return answer{http.StatusCreated, struct {
		Ticket    string    `json:"ticket"`
		ExpiresAt time.Time `json:"expires_at"`
	}{ticket, expires}}, err
}
