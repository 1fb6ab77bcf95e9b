package client

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/hark-jobs/hark/jobs"
)

// Request asks for a job.
type Request struct {
	Kind        string          `json:"kind"`
	Title       string          `json:"title,omitempty"`
	Params      json.RawMessage `json:"params,omitempty"`
	MaxAttempts int             `json:"max_attempts,omitempty"`
	// IdempotencyKey makes a second request with the same key answer with the first one's job, so that a
	// request without an answer can be sent again.
	IdempotencyKey string `json:"-"`
	// Wait is how long the server may wait for the job to end before it answers, 60 s at most.
	Wait time.Duration `json:"-"`
}

// JobsQuery says which jobs to list.
type JobsQuery struct {
	States []jobs.State // all if empty
	Limit  int          // at most so many in all, every one if 0
}

// Enqueue asks for a job and returns it, ended if r.Wait saw it end.
func (c *Client) Enqueue(ctx context.Context, r Request) (jobs.Job, error) {
	header := make(http.Header)
	if r.IdempotencyKey != "" {
		header.Set("Idempotency-Key", r.IdempotencyKey)
	}
	if r.Wait > 0 {
		header.Set("Prefer", fmt.Sprintf("wait=%d", int((r.Wait+time.Second-1)/time.Second)))
	}
	var job jobs.Job
	err := c.call(ctx, call{method: http.MethodPost, path: "/v1/jobs", header: header, body: r}, &job)
	return job, err
}

// Job returns a job.
func (c *Client) Job(ctx context.Context, id string) (jobs.Job, error) {
	var job jobs.Job
	err := c.call(ctx, call{method: http.MethodGet, path: jobPath(id)}, &job)
	return job, err
}

// Jobs goes through jobs, newest first, a page at a time. An error is the last thing it yields.
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
				if left--; !yield(job, nil) || left == 0 {
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

// pageSize is what to ask for when left more are wanted; 0 and less stand for all.
func pageSize(left int) int {
	const most = 100
	if left <= 0 {
		return most
	}
	return min(left, most)
}

// Cancel asks for the job to stop. What it returns may run on until its handler has stopped.
func (c *Client) Cancel(ctx context.Context, id string) (jobs.Job, error) {
	return c.act(ctx, id, "cancel")
}

// Retry queues a job that failed or was cancelled again.
func (c *Client) Retry(ctx context.Context, id string) (jobs.Job, error) {
	return c.act(ctx, id, "retry")
}

func (c *Client) act(ctx context.Context, id, verb string) (jobs.Job, error) {
	var job jobs.Job
	err := c.call(ctx, call{method: http.MethodPost, path: jobPath(id) + "/" + verb}, &job)
	return job, err
}

// jobPath expects an id the server gave, or a user typed: whatever it is, it stays one path segment.
func jobPath(id string) string { return "/v1/jobs/" + segment(id) }

// segment keeps an id from being read as more than one segment. No real id needs it.
func segment(id string) string {
	return strings.NewReplacer("/", "_", "\\", "_", "..", "_").Replace(id)
}
