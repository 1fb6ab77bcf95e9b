package notifier

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"

	"github.com/gin-gonic/gin"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/notifier/auth"
)

// maxNotices is how many notifications one request may bring.
const maxNotices = 1000

// noticeRequest is a notification in the body of POST /v1/notifications.
type noticeRequest struct {
	User     string          `json:"user"`
	Everyone bool            `json:"everyone"`
	Type     string          `json:"type"`
	Title    string          `json:"title"`
	Body     string          `json:"body"`
	Link     string          `json:"link"`
	Data     json.RawMessage `json:"data"`
	Key      string          `json:"key"`
}

// notifyRequest is that body: one notification, or several.
type notifyRequest struct {
	noticeRequest
	Notifications noticeRequests `json:"notifications"`
}

// noticeRequests decodes itself: encoding/json would make all that a body has room for before anybody could say that it
// is too many, and could not say which of them is wrong.
type noticeRequests []noticeRequest

func (r *noticeRequests) UnmarshalJSON(data []byte) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if token, err := dec.Token(); err != nil || token != json.Delim('[') {
		return newProblem(http.StatusBadRequest, "field_invalid", "notifications must be a list.").in("notifications")
	}
	*r = noticeRequests{}
	for dec.More() {
		if len(*r) == maxNotices {
			return errNotices
		}
		var one noticeRequest
		if err := dec.Decode(&one); err != nil {
			return inNotice(len(*r), bodyProblem(err))
		}
		*r = append(*r, one)
	}
	return nil
}

var errNotices = newProblem(http.StatusBadRequest, "field_invalid",
	fmt.Sprintf("notifications must have 1 to %d elements.", maxNotices)).in("notifications")

// notice returns what is asked for, checked as far as [jobs.Queue.Notify] does not.
func (r *noticeRequest) notice() (jobs.Notice, error) {
	to := r.User
	if r.Everyone {
		to = jobs.Everyone
	}
	if r.Everyone == (r.User != "") {
		return jobs.Notice{}, newProblem(http.StatusBadRequest, "audience_invalid", "Give either a user or everyone: true.").in("user")
	}
	if !r.Everyone {
		if err := checkUser(to); err != nil {
			return jobs.Notice{}, err
		}
	}
	return jobs.Notice{User: to, Notification: jobs.Notification{
		Key: r.Key, Type: r.Type, Title: r.Title, Body: r.Body, Link: r.Link, Data: r.Data,
	}}, nil
}

func (n *Notifier) postNotification(c *gin.Context) {
	if !identity(c).Has(auth.ScopeNotify) {
		n.fail(c, newProblem(http.StatusForbidden, "scope_missing", "Your token needs the scope notify for this."))
		return
	}
	if err := n.stores(); err != nil {
		n.fail(c, err)
		return
	}
	var body notifyRequest
	if err := decode(c, &body); err != nil {
		n.fail(c, err)
		return
	}
	if body.Notifications != nil {
		n.postNotifications(c, &body)
		return
	}
	notice, err := body.notice()
	if err != nil {
		n.fail(c, err)
		return
	}
	note, created, err := n.queue.Notify(c.Request.Context(), notice.User, notice.Notification)
	if err != nil {
		n.fail(c, err)
		return
	}
	c.JSON(createdIf(created), note)
}

// postNotifications stores several.
func (n *Notifier) postNotifications(c *gin.Context, body *notifyRequest) {
	notices, err := body.notices()
	if err != nil {
		n.fail(c, err)
		return
	}
	notes, created, err := n.queue.NotifyAll(c.Request.Context(), notices)
	if failed := new(jobs.NoticeError); errors.As(err, &failed) {
		err = inNotice(failed.Index, err)
	}
	if err != nil {
		n.fail(c, err)
		return
	}
	c.JSON(createdIf(created > 0), gin.H{"notifications": notes})
}

func (r *notifyRequest) notices() ([]jobs.Notice, error) {
	if !reflect.ValueOf(r.noticeRequest).IsZero() {
		return nil, newProblem(http.StatusBadRequest, "field_invalid", "notifications must stand alone; what each is goes into its elements.").in("notifications")
	}
	if len(r.Notifications) == 0 {
		return nil, errNotices
	}
	notices := make([]jobs.Notice, len(r.Notifications))
	for i := range r.Notifications {
		var err error
		if notices[i], err = r.Notifications[i].notice(); err != nil {
			return nil, inNotice(i, err)
		}
	}
	return notices, nil
}

// inNotice says of a problem which of several notifications has it.
func inNotice(index int, err error) error {
	p := *problemOf(err)
	if p.Status < http.StatusInternalServerError {
		p.Detail = fmt.Sprintf("notifications[%d]: %s", index, p.Detail)
		if p.Field != "" {
			p.Field = "." + p.Field
		}
		p.Field = fmt.Sprintf("notifications[%d]%s", index, p.Field)
	}
	return errors.Join(&p, err)
}

func createdIf(created bool) int {
	if created {
		return http.StatusCreated
	}
	return http.StatusOK
}
