package client

import (
	"context"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/hark-jobs/hark/jobs"
)

// JobsQuery selects the jobs to list.
type JobsQuery struct {
	States []jobs.State // Defaults to all states.
	Limit  int          // The number of jobs in all. 0 means no limit.
}

// Job returns a job. The error is [jobs.ErrNotFound] for a job that does not exist or belongs to another user. A token with the
// scope enqueue can also read the jobs that it enqueued for others ([User]), and one with the scope admin all jobs.
func (c *Client) Job(ctx context.Context, id string) (jobs.Job, error) {
	var job jobs.Job
	err := c.call(ctx, call{method: http.MethodGet, path: jobPath(id)}, &job)
	return job, err
}

// Jobs yields the jobs of the user, newest first. It reads pages of 100 jobs. After an error it ends.
func (c *Client) Jobs(ctx context.Context, q JobsQuery) iter.Seq2[jobs.Job, error] {
	return func(yield func(jobs.Job, error) bool) {
		states := make([]string, len(q.States))
		for i, s := range q.States {
			states[i] = string(s)
		}
		query := url.Values{}
		if len(states) > 0 {
			query.Set("state", strings.Join(states, ","))
		}
		for left := q.Limit; ; {
			query.Set("limit", strconv.Itoa(pageSize(left)))
			var page struct {
				Jobs []jobs.Job `json:"jobs"`
				Next string     `json:"next"`
			}
			if err := c.call(ctx, call{method: http.MethodGet, path: "/v1/jobs", query: query}, &page); err != nil {
				yield(jobs.Job{}, err)
				return
			}
			for _, job := range page.Jobs {
				left--
				if !yield(job, nil) || left == 0 {
					return
				}
			}
			if page.Next == "" {
				return
			}
			query.Set("after", page.Next)
		}
	}
}

// pageSize returns the number of jobs to request if left more are needed. If left is 0 or less, all are.
func pageSize(left int) int {
	const most = 100
	if left <= 0 {
		return most
	}
	return min(left, most)
}

// Cancel cancels a job. A waiting job is cancelled without delay. For a running job Cancel asks the handler to stop, and returns
// the job in the state running with CancelRequested. Cancelling twice is not an error. A
// service can cancel the jobs that it enqueued for others.
//
// Errors: [jobs.ErrNotFound], [jobs.ErrEnded].
func (c *Client) Cancel(ctx context.Context, id string) (jobs.Job, error) {
	return c.act(ctx, id, "cancel")
}

// Retry runs a job again that failed or was cancelled, as a new run with all its attempts.
//
// Errors: [jobs.ErrNotFound], [jobs.ErrNotEnded].
func (c *Client) Retry(ctx context.Context, id string) (jobs.Job, error) {
	return c.act(ctx, id, "retry")
}

func (c *Client) act(ctx context.Context, id, verb string) (jobs.Job, error) {
	var job jobs.Job
	err := c.call(ctx, call{method: http.MethodPost, path: jobPath(id) + "/" + verb}, &job)
	return job, err
}

// jobPath returns the path of a job. The id may be any text that a user has typed.
func jobPath(id string) string { return "/v1/jobs/" + segment(id) }

// segment replaces characters that could make an id more than one path segment. Valid ids have none of them.
func segment(id string) string {
	return strings.NewReplacer("/", "_", "\\", "_", "..", "_").Replace(id)
}
