package notifier

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"

	"github.com/gin-gonic/gin"
	"github.com/hark-jobs/hark/internal/exact"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/notifier/auth"
)

// maxNotifications is the largest number of notifications in one request.
const maxNotifications = 1000

// notificationRequest is a notification in the body of POST /v1/notifications.
type notificationRequest struct {
	User     string          `json:"user"`
	Everyone bool            `json:"everyone"`
	Type     string          `json:"type"`
	Title    string          `json:"title"`
	Body     string          `json:"body"`
	Link     string          `json:"link"`
	Data     json.RawMessage `json:"data"`
	Key      string          `json:"key"`
}

// notifyRequest is the body of POST /v1/notifications: one notification, or several.
type notifyRequest struct {
	notificationRequest
	Notifications notificationRequests `json:"notifications"`
}

// notificationRequests decodes itself. encoding/json would decode any number of elements before the limit could be
// checked, and its errors would not name the element.
type notificationRequests []notificationRequest

func (r *notificationRequests) UnmarshalJSON(data []byte) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	if token, err := dec.Token(); err != nil || token != json.Delim('[') {
		return newProblem(http.StatusBadRequest, "field_invalid", "notifications must be a list.").in("notifications")
	}
	*r = notificationRequests{}
	for dec.More() {
		if len(*r) == maxNotifications {
			return errNotificationCount
		}
		var one notificationRequest
		var text json.RawMessage
		err := dec.Decode(&text)
		if err == nil {
			err = exact.Decode(text, &one)
		}
		if err != nil {
			return withIndex(len(*r), bodyProblem(err))
		}
		*r = append(*r, one)
	}
	return nil
}

var errNotificationCount = newProblem(http.StatusBadRequest, "field_invalid",
	fmt.Sprintf("notifications must have 1 to %d elements.", maxNotifications)).in("notifications")

// addressed returns the notification with its user. It checks what [joblog.Store.Notify] does not.
func (r *notificationRequest) addressed() (jobs.Addressed, error) {
	to := r.User
	if r.Everyone {
		to = jobs.Everyone
	}
	if r.Everyone == (r.User != "") {
		return jobs.Addressed{}, newProblem(http.StatusBadRequest, "audience_invalid", "Give either a user or everyone: true.").in("user")
	}
	if !r.Everyone {
		if err := checkUser(to); err != nil {
			return jobs.Addressed{}, err
		}
	}
	return jobs.Addressed{User: to, Notification: jobs.Notification{
		Key: r.Key, Type: r.Type, Title: r.Title, Body: r.Body, Link: r.Link, Data: r.Data,
	}}, nil
}

func (n *Notifier) postNotification(c *gin.Context) (answer, error) {
	if !identity(c).Has(auth.ScopeNotify) {
		return answer{}, newProblem(http.StatusForbidden, "scope_missing", "Your token needs the scope notify for this.")
	}
	if err := n.checkAccepting(); err != nil {
		return answer{}, err
	}
	var body notifyRequest
	if err := decode(c, &body); err != nil {
		return answer{}, err
	}
	if body.Notifications != nil {
		return n.postNotifications(c, &body)
	}
	to, err := body.addressed()
	if err != nil {
		return answer{}, err
	}
	stored, created, err := n.store.Notify(c.Request.Context(), to.User, to.Notification)
	if err != nil {
		return answer{}, err
	}
	return answer{createdIf(created), stored}, nil
}

// postNotifications stores several notifications.
func (n *Notifier) postNotifications(c *gin.Context, body *notifyRequest) (answer, error) {
	batch, err := body.batch()
	if err != nil {
		return answer{}, err
	}
	stored, created, err := n.store.NotifyAll(c.Request.Context(), batch)
	if failed := new(jobs.BatchError); errors.As(err, &failed) {
		err = withIndex(failed.Index, err)
	}
	if err != nil {
		return answer{}, err
	}
	return answer{createdIf(created > 0), gin.H{"notifications": stored}}, nil
}

func (r *notifyRequest) batch() ([]jobs.Addressed, error) {
	if !reflect.ValueOf(r.notificationRequest).IsZero() {
		return nil, newProblem(http.StatusBadRequest, "field_invalid", "notifications excludes all other fields; move them into its elements.").in("notifications")
	}
	if len(r.Notifications) == 0 {
		return nil, errNotificationCount
	}
	batch := make([]jobs.Addressed, len(r.Notifications))
	for i := range r.Notifications {
		var err error
		if batch[i], err = r.Notifications[i].addressed(); err != nil {
			return nil, withIndex(i, err)
		}
	}
	return batch, nil
}

// withIndex adds the index of a notification to the problem of err.
func withIndex(index int, err error) error {
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

// createdIf returns the status 201 for something new, else 200.
func createdIf(created bool) int {
	if created {
		return http.StatusCreated
	}
	return http.StatusOK
}
