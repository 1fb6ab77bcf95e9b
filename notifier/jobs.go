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

func (n *Notifier) getKinds(c *gin.Context) (answer, error) {
	var kinds []jobs.Kind
	err := n.list(c, func(ctx context.Context) (err error) {
		kinds, err = n.visibleKinds(ctx, c)
		return err
	})
	return answer{http.StatusOK, gin.H{"kinds": kinds}}, err
}

// visibleKinds returns the kinds that the caller may use, with the options that the caller may choose.
func (n *Notifier) visibleKinds(ctx context.Context, c *gin.Context) ([]jobs.Kind, error) {
	kinds, err := n.store.Kinds(ctx)
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
	User        string            `json:"user"` // for services, another user than the caller
	Kind        string            `json:"kind"`
	Title       string            `json:"title"`
	Params      json.RawMessage   `json:"params"`
	Metadata    map[string]string `json:"metadata"`
	MaxAttempts int               `json:"max_attempts"`
}

func (n *Notifier) postJob(c *gin.Context) (answer, error) {
	if err := n.checkAccepting(); err != nil {
		return answer{}, err
	}
	if !identity(c).Service() {
		if err := n.enqueues.take(user(c)); err != nil {
			return answer{}, err
		}
	}
	var body jobRequest
	if err := decode(c, &body); err != nil {
		return answer{}, err
	}
	wait, err := preferredWait(c.Request.Header)
	if err != nil {
		return answer{}, err
	}
	ctx, cancel := context.WithTimeout(c.Request.Context(), callTime)
	defer cancel()
	job, err := n.enqueue(ctx, c, &body)
	if errors.Is(err, jobs.ErrKindUnknown) {
		err = n.unknownKind(c, body.Kind)
	}
	if err != nil {
		return answer{}, err
	}
	if wait > 0 {
		c.Header("Preference-Applied", "wait="+strconv.Itoa(int(wait/time.Second)))
		latest, err := n.store.Wait(c.Request.Context(), job, wait)
		if err == nil {
			job = latest
		} else if c.Request.Context().Err() == nil {
			// The job is accepted, so the response is still 202.
			n.log.Warn("waiting for the end of a job failed", "request_id", requestID(c), "job", job.ID, "err", err)
		}
	}
	status := http.StatusAccepted
	if wait > 0 && job.State.Terminal() {
		status = http.StatusOK
	}
	// Relative to the request (RFC 9110, section 10.2.2): a proxy may serve hark below a path.
	c.Header("Location", "jobs/"+job.ID)
	return answer{status, job.Public()}, nil
}

// unknownKind returns a problem that lists the kinds of the caller.
func (n *Notifier) unknownKind(c *gin.Context, kind string) error {
	kinds, err := n.visibleKinds(c.Request.Context(), c)
	if err != nil {
		return err
	}
	names := make([]string, len(kinds))
	for i, k := range kinds {
		names[i] = k.Name
	}
	known := "no worker has published a kind yet"
	if len(names) > 0 {
		known = "the kinds are " + strings.Join(names, ", ")
	}
	return newProblem(http.StatusBadRequest, "kind_unknown", fmt.Sprintf("The kind %.60q is unknown; %s.", kind, known)).in("kind")
}

// maxWait is the longest time that a request may wait for the end of its job.
const maxWait = 60 * time.Second

// preferredWait reads Prefer: wait=N (RFC 7240, section 4.3), N in seconds.
func preferredWait(h http.Header) (time.Duration, error) {
	for _, preference := range strings.Split(strings.Join(h.Values("Prefer"), ","), ",") {
		preference, _, _ = strings.Cut(preference, ";") // parameters follow; wait has none
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

func (n *Notifier) getJobs(c *gin.Context) (answer, error) {
	limit, err := limitOf(c)
	if err != nil {
		return answer{}, err
	}
	opts := jobs.ListOptions{Limit: limit, After: c.Query("after")}
	if states := c.Query("state"); states != "" {
		for name := range strings.SplitSeq(states, ",") {
			state := jobs.State(name)
			if !slices.Contains(jobs.States, state) {
				return answer{}, newProblem(http.StatusBadRequest, "state_unknown",
					"state must be queued, running, retrying, succeeded, failed or cancelled, or several of these separated by commas.").in("state")
			}
			opts.States = append(opts.States, state)
		}
	}
	owner := user(c)
	opts.Everyone = c.Query("everyone") == "true"
	if named := c.Query("user"); opts.Everyone || named != "" && named != owner {
		if !identity(c).Has(auth.ScopeAdmin) {
			return answer{}, newProblem(http.StatusForbidden, "scope_missing", "Your token needs the scope admin to see the jobs of others.").in("user")
		}
		owner = named
	}
	var page jobs.Page
	err = n.list(c, func(ctx context.Context) (err error) {
		page, err = n.store.List(ctx, owner, opts)
		return err
	})
	if errors.Is(err, jobs.ErrCursor) {
		return answer{}, newProblem(http.StatusBadRequest, "cursor_invalid", "after must be the next of an earlier response.").in("after")
	}
	if err != nil {
		return answer{}, err
	}
	list := struct {
		Jobs []jobs.Job `json:"jobs"`
		Next string     `json:"next,omitempty"`
	}{Jobs: make([]jobs.Job, len(page.Jobs)), Next: page.Next}
	for i, job := range page.Jobs {
		list.Jobs[i] = job.Public()
	}
	return answer{http.StatusOK, list}, nil
}

// limitOf reads ?limit=, 1 to 100. Defaults to 50.
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

func (n *Notifier) getJob(c *gin.Context) (answer, error) { return n.onJob(c, toFollow, n.store.Get) }
func (n *Notifier) cancelJob(c *gin.Context) (answer, error) {
	return n.changeJob(c, toFollow, n.store.Cancel)
}
func (n *Notifier) retryJob(c *gin.Context) (answer, error) { return n.changeJob(c, toOwn, n.retry(c)) }

// onJob calls do for the job that the path names, and responds with the job that do returns.
func (n *Notifier) onJob(c *gin.Context, p purpose, do func(ctx context.Context, user, id string) (jobs.Job, error)) (answer, error) {
	owner, err := n.owner(c, p)
	var job jobs.Job
	if err == nil {
		job, err = do(c.Request.Context(), owner, param(c, "id"))
	}
	if err != nil {
		return answer{}, err
	}
	return answer{http.StatusOK, job.Public()}, nil
}

// changeJob is onJob for a do that writes.
func (n *Notifier) changeJob(c *gin.Context, p purpose, do func(ctx context.Context, user, id string) (jobs.Job, error)) (answer, error) {
	if err := n.checkWritable(); err != nil {
		return answer{}, err
	}
	return n.onJob(c, p, do)
}
