package notifier

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strconv"

	"github.com/gin-gonic/gin"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/notifier/auth"
	"github.com/hark-jobs/hark/notifier/inbox"
	"github.com/hark-jobs/hark/notifier/sse"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// problem is an error as its user reads it: an RFC 9457 problem with a stable code for programs and one
// sentence for people. What else is known of it stands in the log, under the request's id.
type problem struct {
	Type      string `json:"type"`
	Title     string `json:"title"`
	Status    int    `json:"status"`
	Code      string `json:"code"`
	Detail    string `json:"detail"`
	Field     string `json:"field,omitempty"`
	Naming    bool   `json:"naming,omitempty"`
	RequestID string `json:"request_id,omitempty"`

	retryAfter int // seconds; 0 means that trying again is not the way out
}

func (p *problem) Error() string { return p.Code + ": " + p.Detail }

func newProblem(status int, code, detail string) *problem {
	return &problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Code: code, Detail: detail}
}

func (p *problem) in(field string) *problem { p.Field = field; return p }

func (p *problem) retry(seconds int) *problem { p.retryAfter = seconds; return p }

// problemOf says what a user reads about err.
func problemOf(err error) *problem {
	var p *problem
	var invalid *jobs.InvalidError
	var denied *auth.Error
	var notAllowed *jobs.ForbiddenError
	switch {
	case errors.As(err, &p):
		return p
	case errors.As(err, &invalid):
		return newProblem(http.StatusBadRequest, invalid.Code, invalid.Error()+".").in(invalid.Field)
	case errors.As(err, &notAllowed):
		return forbidden(notAllowed)
	case errors.As(err, &denied):
		p = newProblem(denied.Status(), denied.Code, denied.Detail)
		if p.Status == http.StatusServiceUnavailable {
			p.retryAfter = 5
		}
		return p
	}
	for _, known := range knownErrors {
		if errors.Is(err, known.err) {
			return newProblem(known.status, known.code, known.detail)
		}
	}
	if unavailable(err) {
		return newProblem(http.StatusServiceUnavailable, "queue_unavailable", "The job queue cannot be reached right now; try again in a few seconds.").retry(2)
	}
	return newProblem(http.StatusInternalServerError, "internal", "Something went wrong here; the log knows more under the request's id.")
}

var knownErrors = []struct {
	err    error
	status int
	code   string
	detail string
}{
	{jobs.ErrNotFound, http.StatusNotFound, "job_not_found", "There is no such job among yours."},
	{jobs.ErrKeyReused, http.StatusConflict, "key_reused", "This key was used before for something else; use a new one."},
	{jobs.ErrEnded, http.StatusConflict, "job_ended", "The job has ended already."},
	{jobs.ErrNotEnded, http.StatusConflict, "job_not_ended", "Only a job that failed or was cancelled can be retried."},
	{jobs.ErrFileGone, http.StatusGone, "file_expired", "The file has expired; run the job again."},
	{inbox.ErrNotFound, http.StatusNotFound, "notification_not_found", "There is no such notification among yours."},
	{sse.ErrClosed, http.StatusServiceUnavailable, "shutting_down", "This server is stopping; connect again."},
}

var errDraining = newProblem(http.StatusServiceUnavailable, "shutting_down", "This server is stopping; ask again in a moment.").retry(2)

var errStarting = newProblem(http.StatusServiceUnavailable, "starting", "This server is starting; ask again in a moment.").retry(2)

// Starting answers any request with a problem that says so. It is for a process that listens before its notifier can
// work.
func Starting(w http.ResponseWriter, _ *http.Request) { errStarting.write(w) }

var errFull = newProblem(http.StatusServiceUnavailable, "too_many_connections",
	"This server has as many connections as it may have; close some, or try again in a few seconds.").retry(5)

// Full answers any request with a problem that says that there are too many connections.
func Full(w http.ResponseWriter, _ *http.Request) { errFull.write(w) }

// write answers a request that does not reach a [Notifier].
func (p *problem) write(w http.ResponseWriter) {
	body, err := json.Marshal(p)
	if err != nil {
		panic(err) // it is a constant
	}
	if p.retryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(p.retryAfter))
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(p.Status)
	_, _ = w.Write(body)
}

// stores returns nil if what is asked for can be accepted, as far as is known without trying: trying would
// take until the call times out.
func (n *Notifier) stores() error {
	if n.draining.Load() {
		return errDraining
	}
	if err := n.healthy(); err != nil {
		return errors.Join(newProblem(http.StatusServiceUnavailable, "storage_unavailable",
			"Nothing can be stored right now, so nothing was accepted; try again in a few seconds.").retry(5), err)
	}
	return nil
}

// unavailable reports whether err says that NATS is out of reach, slow, or out of space: nothing that the
// one who asks could mend, and all of which passes.
func unavailable(err error) bool {
	var api *jetstream.APIError
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrTimeout) ||
		errors.Is(err, nats.ErrNoResponders) || errors.Is(err, nats.ErrConnectionClosed) ||
		errors.Is(err, nats.ErrDisconnected) || errors.Is(err, nats.ErrReconnectBufExceeded) ||
		errors.Is(err, jetstream.ErrNoStreamResponse) || errors.As(err, &api) && (api.Code >= 500 || api.Code == http.StatusTooManyRequests || jobs.Passes(err))
}

// inboxDown marks the errors of the inbox's database.
func inboxDown(err error) error {
	if err == nil || errors.Is(err, inbox.ErrNotFound) || errors.Is(err, context.Canceled) {
		return err
	}
	return errors.Join(newProblem(http.StatusServiceUnavailable, "inbox_unavailable",
		"The inbox cannot be reached right now; try again in a few seconds. Live events go on.").retry(2), err)
}

// statusClientGone is what the metrics count for a client that did not wait for its answer. There is no such
// status in HTTP; nginx made it known.
const statusClientGone = 499

// fail answers with what the user may read about err, and leaves the rest to the log.
func (n *Notifier) fail(c *gin.Context, err error) {
	p := *problemOf(err)
	// To net/http a body that is too slow is a client that is gone, too, but it is there.
	if errors.Is(c.Request.Context().Err(), context.Canceled) && p.Status != http.StatusRequestTimeout {
		c.AbortWithStatus(statusClientGone)
		return
	}
	p.RequestID = requestID(c)
	if p.Status >= 500 {
		level := slog.LevelError
		if p.Status == http.StatusServiceUnavailable { // it passes, and who asked was told so
			level = slog.LevelWarn
		}
		n.log.Log(c.Request.Context(), level, "request failed", "request_id", p.RequestID, "method", c.Request.Method, "route", c.FullPath(), "code", p.Code, "err", err)
	}
	if p.retryAfter > 0 {
		c.Header("Retry-After", strconv.Itoa(p.retryAfter))
	}
	if p.Status == http.StatusUnauthorized {
		c.Header("WWW-Authenticate", `Bearer realm="hark"`) // RFC 6750, section 3
	}
	body, err := json.Marshal(&p)
	if err != nil {
		n.log.Error("problem not encoded", "err", err)
	}
	c.Abort()
	c.Data(p.Status, "application/problem+json", body)
}
