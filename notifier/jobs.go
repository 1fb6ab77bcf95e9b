package notifier

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/notifier/auth"
)

func (n *Notifier) getKinds(c *gin.Context) {
	var kinds []jobs.Kind
	leave, err := n.list(c, func(ctx context.Context) (err error) {
		kinds, err = n.visibleKinds(ctx, c)
		return err
	})
	defer leave()
	if err != nil {
		n.fail(c, err)
		return
	}
	c.JSON(http.StatusOK, gin.H{"kinds": kinds})
}

// visibleKinds returns the kinds that the caller may use, as they may see them.
func (n *Notifier) visibleKinds(ctx context.Context, c *gin.Context) ([]jobs.Kind, error) {
	kinds, err := n.queue.Kinds(ctx)
	if err != nil {
		return nil, err
	}
	visible := make([]jobs.Kind, 0, len(kinds))
	for _, kind := range kinds {
		if seen, ok := kind.For(grant(identity(c))); ok {
			visible = append(visible, seen)
		}
	}
	return visible, nil
}

// jobRequest is the body of POST /v1/jobs.
type jobRequest struct {
	User        string          `json:"user"` // another one than the caller, for services
	Kind        string          `json:"kind"`
	Title       string          `json:"title"`
	Params      json.RawMessage `json:"params"`
	MaxAttempts int             `json:"max_attempts"`
}

func (n *Notifier) postJob(c *gin.Context) {
	if err := n.stores(); err != nil {
		n.fail(c, err)
		return
	}
	if !identity(c).Service() {
		if err := n.enqueues.take(user(c)); err != nil {
			n.fail(c, err)
			return
		}
	}
	var body jobRequest
	if err := decode(c, &body); err != nil {
		n.fail(c, err)
		return
	}
	wait, err := preferredWait(c.Request.Header)
	if err != nil {
		n.fail(c, err)
		return
	}
	ctx, cancel := context.WithTimeout(c.Request.Context(), callTime)
	defer cancel()
	job, err := n.enqueue(ctx, c, &body)
	if errors.Is(err, jobs.ErrKindUnknown) {
		err = n.unknownKind(c, body.Kind)
	}
	if err != nil {
		n.fail(c, err)
		return
	}
	if wait > 0 {
		c.Header("Preference-Applied", "wait="+strconv.Itoa(int(wait/time.Second)))
		latest, err := n.queue.Wait(c.Request.Context(), job, wait)
		if err == nil {
			job = latest
		} else if c.Request.Context().Err() == nil {
			// The job is accepted all the same, and that is what has to be said.
			n.log.Warn("end of a job not waited for", "request_id", requestID(c), "job", job.ID, "err", err)
		}
	}
	status := http.StatusAccepted
	if wait > 0 && job.State.Terminal() {
		status = http.StatusOK
	}
	c.Header("Location", "/v1/jobs/"+job.ID)
	c.JSON(status, job.Public())
}

// unknownKind says which kinds there are for the caller.
func (n *Notifier) unknownKind(c *gin.Context, kind string) error {
	kinds, err := n.visibleKinds(c.Request.Context(), c)
	if err != nil {
		return err
	}
	names := make([]string, len(kinds))
	for i, k := range kinds {
		names[i] = k.Name
	}
	known := "no worker has announced any yet"
	if len(names) > 0 {
		known = "there are " + strings.Join(names, ", ")
	}
	return newProblem(http.StatusBadRequest, "kind_unknown", fmt.Sprintf("No worker knows the kind %.60q; %s.", kind, known)).in("kind")
}

// maxWait is the longest that a request may ask to wait for the end of its job.
const maxWait = 60 * time.Second

// preferredWait reads Prefer: wait=N (RFC 7240, section 4.3), N in seconds.
func preferredWait(h http.Header) (time.Duration, error) {
	for _, preference := range strings.Split(strings.Join(h.Values("Prefer"), ","), ",") {
		preference, _, _ = strings.Cut(preference, ";") // what follows are its parameters, of which wait has none
		name, value, _ := strings.Cut(preference, "=")
		if !strings.EqualFold(strings.TrimSpace(name), "wait") {
			continue
		}
		seconds, err := strconv.Atoi(strings.Trim(value, ` "`))
		if err != nil || seconds < 0 {
			return 0, newProblem(http.StatusBadRequest, "prefer_invalid", "Prefer: wait= takes a number of seconds, like wait=10.").in("Prefer")
		}
		return time.Duration(min(seconds, int(maxWait/time.Second))) * time.Second, nil
	}
	return 0, nil
}

func (n *Notifier) getJobs(c *gin.Context) {
	limit, err := limitOf(c)
	if err != nil {
		n.fail(c, err)
		return
	}
	opts := jobs.ListOptions{Limit: limit}
	if after := c.Query("after"); after != "" {
		if opts.After, err = strconv.ParseUint(after, 10, 64); err != nil || opts.After == 0 {
			n.fail(c, newProblem(http.StatusBadRequest, "cursor_invalid", "after must be the next of an earlier answer.").in("after"))
			return
		}
	}
	if states := c.Query("state"); states != "" {
		for name := range strings.SplitSeq(states, ",") {
			state := jobs.State(name)
			if !slices.Contains(jobs.States, state) {
				n.fail(c, newProblem(http.StatusBadRequest, "state_unknown",
					"state must be one of queued, running, retrying, succeeded, failed and cancelled, or several with commas between.").in("state"))
				return
			}
			opts.States = append(opts.States, state)
		}
	}
	owner := user(c)
	opts.Everyone = c.Query("everyone") == "true"
	if named := c.Query("user"); opts.Everyone || named != "" && named != owner {
		if !identity(c).Has(auth.ScopeAdmin) {
			n.fail(c, newProblem(http.StatusForbidden, "scope_missing", "Your token needs the scope admin to see the jobs of others.").in("user"))
			return
		}
		owner = named
	}
	var page jobs.Page
	leave, err := n.list(c, func(ctx context.Context) (err error) {
		page, err = n.queue.List(ctx, owner, opts)
		return err
	})
	defer leave()
	if err != nil {
		n.fail(c, err)
		return
	}
	answer := struct {
		Jobs []jobs.Job `json:"jobs"`
		Next string     `json:"next,omitempty"`
	}{Jobs: make([]jobs.Job, len(page.Jobs))}
	for i, job := range page.Jobs {
		answer.Jobs[i] = job.Public()
	}
	if page.Next > 0 {
		answer.Next = strconv.FormatUint(page.Next, 10)
	}
	c.JSON(http.StatusOK, answer)
}

// limitOf reads ?limit=, 1 to 100, 50 if it is not given.
func limitOf(c *gin.Context) (int, error) {
	text := c.Query("limit")
	if text == "" {
		return 50, nil
	}
	limit, err := strconv.Atoi(text)
	if err != nil || limit < 1 || limit > 100 {
		return 0, newProblem(http.StatusBadRequest, "limit_invalid", "limit must be 1 to 100.").in("limit")
	}
	return limit, nil
}

func (n *Notifier) getJob(c *gin.Context)    { n.onJob(c, n.queue.Get) }
func (n *Notifier) cancelJob(c *gin.Context) { n.onJob(c, n.queue.Cancel) }
func (n *Notifier) retryJob(c *gin.Context)  { n.onJob(c, n.retry(c)) }

// onJob does something with the job that the path names, and answers with how it stands then.
func (n *Notifier) onJob(c *gin.Context, do func(ctx context.Context, user, id string) (jobs.Job, error)) {
	owner, err := n.owner(c)
	var job jobs.Job
	if err == nil {
		job, err = do(c.Request.Context(), owner, c.Param("id"))
	}
	if err != nil {
		n.fail(c, err)
		return
	}
	c.JSON(http.StatusOK, job.Public())
}

// owner returns as whom to look for the job that the path names: its own user for an admin, and who is
// asking for everybody else.
func (n *Notifier) owner(c *gin.Context) (string, error) {
	if !identity(c).Has(auth.ScopeAdmin) {
		return user(c), nil
	}
	return n.queue.Owner(c.Request.Context(), c.Param("id"))
}
