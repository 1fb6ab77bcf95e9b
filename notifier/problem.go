package notifier

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strconv"

	"github.com/gin-gonic/gin"
	"github.com/hark-jobs/hark/internal/joblog"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/notifier/auth"
	"github.com/hark-jobs/hark/notifier/inbox"
	"github.com/hark-jobs/hark/notifier/sse"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// problem is the body of an error response (RFC 9457): a stable code for programs and one sentence for people. The log
// has the details, under the request's id.
type problem struct {
	Type      string `json:"type"`
	Title     string `json:"title"`
	Status    int    `json:"status"`
	Code      string `json:"code"`
	Detail    string `json:"detail"`
	Field     string `json:"field,omitempty"`
	SignIn    signIn `json:"sign_in,omitempty"`
	SignInURL string `json:"sign_in_url,omitempty"`
	Topic     string `json:"topic,omitempty"` // the refused one of several, for a client that goes on with the others
	RequestID string `json:"request_id,omitempty"`

	retryAfter int // seconds; 0 means that a retry does not help
}

func (p *problem) Error() string { return p.Code + ": " + p.Detail }

func newProblem(status int, code, detail string) *problem {
	return &problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Code: code, Detail: detail}
}

func (p *problem) of(topic string) *problem { p.Topic = topic; return p }

func (p *problem) in(field string) *problem { p.Field = field; return p }

func (p *problem) retry(seconds int) *problem { p.retryAfter = seconds; return p }

func newInternalProblem() *problem {
	return newProblem(http.StatusInternalServerError, "internal", "An internal error occurred; the server's log has the details under this request_id.")
}

// problemOf returns the problem for err.
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
	if joblog.IsFull(err) {
		return errNotStored
	}
	if unavailable(err) {
		return newProblem(http.StatusServiceUnavailable, "queue_unavailable", "The job queue cannot be reached right now; try again in a few seconds.").retry(2)
	}
	return newInternalProblem()
}

var knownErrors = []struct {
	err    error
	status int
	code   string
	detail string
}{
	{jobs.ErrNotFound, http.StatusNotFound, "job_not_found", "Job not found."},
	{jobs.ErrKeyReused, http.StatusConflict, "key_reused", "This idempotency key was used for another request; use a new key."},
	{jobs.ErrEnded, http.StatusConflict, "job_ended", "The job has ended already."},
	{jobs.ErrNotEnded, http.StatusConflict, "job_not_ended", "Only a job that failed or was cancelled can be retried."},
	{jobs.ErrFileGone, http.StatusGone, "file_gone", "The file has expired or was deleted; run the job again."},
	{inbox.ErrNotFound, http.StatusNotFound, "notification_not_found", "Notification not found."},
	{sse.ErrClosed, http.StatusServiceUnavailable, "shutting_down", "This server is shutting down; reconnect."},
}

var errDraining = newProblem(http.StatusServiceUnavailable, "shutting_down", "This server is shutting down; retry in a few seconds.").retry(2)

var errStarting = newProblem(http.StatusServiceUnavailable, "starting", "This server is starting; retry in a few seconds.").retry(2)

// Starting responds to any request with the problem starting. It is for a process that listens before its notifier is
// ready.
func Starting(w http.ResponseWriter, _ *http.Request) { errStarting.write(w) }

// Stopping answers any request with a problem that says so. It is for a process whose notifier has ended.
func Stopping(w http.ResponseWriter, _ *http.Request) { errDraining.write(w) }

var errFull = newProblem(http.StatusServiceUnavailable, "too_many_connections",
	"This server has reached its limit of connections; close some, or try again in a few seconds.").retry(5)

// Full responds to any request with the problem too_many_connections.
func Full(w http.ResponseWriter, _ *http.Request) { errFull.write(w) }

// write responds to a request that does not reach a [Notifier].
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

var errNotStored = newProblem(http.StatusServiceUnavailable, "storage_unavailable",
	"The server cannot store anything right now, so the request was not accepted; try again in a few seconds.").retry(5)

var errReadOnly = newProblem(http.StatusServiceUnavailable, "data_read_only",
	"This server cannot write to its data folder, so it is read-only; its operator must make the folder writable.")

// refuseReadOnly refuses requests that change something while the server is read-only.
func (n *Notifier) refuseReadOnly(c *gin.Context) {
	if n.readOnly {
		n.fail(c, errReadOnly)
	}
}

// checkAccepting returns nil unless the notifier is draining, or the queue is known to store nothing. Without the check
// a request would block until its timeout.
func (n *Notifier) checkAccepting() error {
	if n.draining.Load() {
		return errDraining
	}
	return n.checkWritable()
}

// checkWritable is checkAccepting for requests that a draining notifier still serves: changes of existing jobs, and
// tickets.
func (n *Notifier) checkWritable() error {
	if err := n.healthy(); err != nil {
		return errors.Join(errNotStored, err)
	}
	return nil
}

// unavailable reports whether err is a temporary failure of NATS: unreachable, slow or out of space. The caller can only
// retry.
func unavailable(err error) bool {
	var api *jetstream.APIError
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrTimeout) ||
		errors.Is(err, nats.ErrNoResponders) || errors.Is(err, nats.ErrConnectionClosed) ||
		errors.Is(err, nats.ErrDisconnected) || errors.Is(err, nats.ErrReconnectBufExceeded) ||
		errors.Is(err, jetstream.ErrNoStreamResponse) || errors.As(err, &api) && (api.Code >= 500 || api.Code == http.StatusTooManyRequests || joblog.IsTransient(err))
}

// inboxDown marks the errors of the inbox's database.
func inboxDown(err error) error {
	if err == nil || errors.Is(err, inbox.ErrNotFound) || errors.Is(err, context.Canceled) {
		return err
	}
	return errors.Join(newProblem(http.StatusServiceUnavailable, "inbox_unavailable",
		"The inbox cannot be reached right now; try again in a few seconds. Live events continue.").retry(2), err)
}

// statusClientGone is the status in the metrics for a client that has closed its connection before the response. HTTP
// does not define it; nginx uses it.
const statusClientGone = 499

// levelOf returns the log level for a failure with this status.
func levelOf(status int) slog.Level {
	switch {
	case status == http.StatusServiceUnavailable: // temporary, and the caller is informed
		return slog.LevelWarn
	case status >= 500:
		return slog.LevelError
	}
	return slog.LevelInfo
}

// fail responds with the problem of err. It logs err if the status is 500 or above.
func (n *Notifier) fail(c *gin.Context, err error) {
	p := *problemOf(err)
	// net/http cancels the context for a slow body, too, but then the client is still connected.
	if errors.Is(c.Request.Context().Err(), context.Canceled) && p.Status != http.StatusRequestTimeout {
		c.AbortWithStatus(statusClientGone)
		return
	}
	p.RequestID = requestID(c)
	if p.Status >= 500 {
		n.log.Log(c.Request.Context(), levelOf(p.Status), "request failed", "request_id", p.RequestID, "method", c.Request.Method, "route", c.FullPath(), "code", p.Code, "err", err)
	}
	if p.retryAfter > 0 {
		c.Header("Retry-After", strconv.Itoa(p.retryAfter))
	}
	if p.Status == http.StatusUnauthorized {
		c.Header("WWW-Authenticate", `Bearer realm="hark"`) // RFC 6750, section 3
	}
	body, err := json.Marshal(&p)
	if err != nil {
		n.log.Error("encoding a problem failed", "err", err)
	}
	c.Abort()
	c.Data(p.Status, "application/problem+json", body)
}
