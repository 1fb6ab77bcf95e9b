package client

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/hark-jobs/hark/jobs"
)

// Request is the request for a job.
type Request struct {
	// User owns the job. Another user than that of the token needs the scope enqueue. Defaults to the user of the token.
	User        string            `json:"user,omitempty"`
	Kind        string            `json:"kind"`
	Title       string            `json:"title,omitempty"` // Defaults to the title of the kind.
	Params      json.RawMessage   `json:"params,omitempty"`
	Metadata    map[string]string `json:"metadata,omitempty"`     // see [jobs.Request]
	MaxAttempts int               `json:"max_attempts,omitempty"` // Defaults to that of the kind.
	// IdempotencyKey makes a second request for this user with the same key return the job of the first, so that a request
	// without a response can be repeated. Defaults to none.
	IdempotencyKey string `json:"-"`
	// Wait is how long the server waits for the end of the job before it responds, in whole seconds, up to 60 s. Defaults to
	// 0: the response comes when the job is stored.
	Wait time.Duration `json:"-"`
}

// Option is an optional part of the request of [Enqueue].
type Option func(*Request)

// User enqueues for another user than that of the token, and needs the scope enqueue. The service can follow and cancel the job,
// and cannot download its file.
func User(user string) Option { return func(r *Request) { r.User = user } }

// Title sets the title that the user reads. Defaults to the title of the kind.
func Title(title string) Option { return func(r *Request) { r.Title = title } }

// IdempotencyKey makes a second request for this user with the same key return the job of the first.
func IdempotencyKey(key string) Option { return func(r *Request) { r.IdempotencyKey = key } }

// MaxAttempts sets the largest number of attempts. Defaults to that of the kind.
func MaxAttempts(n int) Option { return func(r *Request) { r.MaxAttempts = n } }

// Metadata sets the metadata of the job: see [jobs.Request]. Defaults to none.
func Metadata(metadata map[string]string) Option { return func(r *Request) { r.Metadata = metadata } }

// Wait sets how long the server waits for the end of the job before it responds, up to 60 s. Defaults to 0.
func Wait(d time.Duration) Option { return func(r *Request) { r.Wait = d } }

// Enqueue enqueues a job for the user of the token, or for [User], and returns it once it is stored. The kind must have been
// published by a worker.
//
// Errors: that of the definition, [jobs.ErrKindUnknown], [jobs.ErrKeyReused], or another [*Problem].
func Enqueue[P any](ctx context.Context, c *Client, kind jobs.Definition[P], params P, options ...Option) (jobs.Job, error) {
	if err := kind.Err(); err != nil {
		return jobs.Job{}, err
	}
	raw, err := kind.Encode(params)
	if err != nil {
		return jobs.Job{}, err
	}
	r := Request{Kind: kind.Kind().Name, Params: raw}
	for _, option := range options {
		option(&r)
	}
	return c.Enqueue(ctx, r)
}

// Enqueue is [Enqueue] for a kind that is not known at compile time.
func (c *Client) Enqueue(ctx context.Context, r Request) (jobs.Job, error) {
	header := make(http.Header)
	if r.IdempotencyKey != "" {
		header.Set("Idempotency-Key", r.IdempotencyKey)
	}
	if r.Wait > 0 {
		header.Set("Prefer", "wait="+strconv.Itoa(int((r.Wait+time.Second-1)/time.Second)))
	}
	var job jobs.Job
	err := c.call(ctx, call{method: http.MethodPost, path: "/v1/jobs", header: header, body: r}, &job)
	return job, err
}
