package queue

import (
	"context"

	"github.com/hark-jobs/hark/jobs"
)

// Option is an optional setting of [Enqueue].
type Option func(*jobs.Request)

// Title sets the title that the user reads. Defaults to the title of the kind.
func Title(title string) Option { return func(r *jobs.Request) { r.Title = title } }

// IdempotencyKey makes a second request of this user with the same key return the first job.
func IdempotencyKey(key string) Option { return func(r *jobs.Request) { r.IdempotencyKey = key } }

// MaxAttempts sets the limit of attempts. Defaults to that of the kind.
func MaxAttempts(n int) Option { return func(r *jobs.Request) { r.MaxAttempts = n } }

// Metadata sets the metadata of the job, see [jobs.Request.Metadata]. Defaults to none.
func Metadata(metadata map[string]string) Option {
	return func(r *jobs.Request) { r.Metadata = metadata }
}

// EnqueuedBy sets the user name of the service that enqueues, which may then follow the job over HTTP, too: see
// [jobs.Request.EnqueuedBy]. Defaults to none.
func EnqueuedBy(service string) Option { return func(r *jobs.Request) { r.EnqueuedBy = service } }

// Claims sets the verified claims of the user. Those that the kind declares are stored with the job. Defaults to none.
func Claims(claims map[string]any) Option { return func(r *jobs.Request) { r.Claims = claims } }

// Enqueue enqueues a job for a user and returns it once it is stored. The kind must have been published by a worker.
//
// Errors: a [*jobs.InvalidError] for a request that is never valid, [jobs.ErrKindUnknown], [jobs.ErrKeyReused], or an error of
// the server.
func Enqueue[P any](ctx context.Context, c *Client, kind jobs.Definition[P], user string, params P, options ...Option) (jobs.Job, error) {
	r, err := request(kind, user, params, options)
	if err != nil {
		return jobs.Job{}, err
	}
	return c.Enqueue(ctx, r)
}

// EnqueueAll enqueues a job of one kind for each of params, as [Client.EnqueueAll] does. The options apply to every job, so
// [IdempotencyKey] must not be one of them.
func EnqueueAll[P any](ctx context.Context, c *Client, kind jobs.Definition[P], user string, params []P, options ...Option) ([]jobs.Job, error) {
	requests := make([]jobs.Request, len(params))
	for i, p := range params {
		var err error
		if requests[i], err = request(kind, user, p, options); err != nil {
			return nil, &jobs.BatchError{Index: i, Err: err}
		}
	}
	return c.EnqueueAll(ctx, requests)
}

func request[P any](kind jobs.Definition[P], user string, params P, options []Option) (jobs.Request, error) {
	if err := kind.Err(); err != nil {
		return jobs.Request{}, err
	}
	raw, err := kind.Encode(params)
	if err != nil {
		return jobs.Request{}, err
	}
	r := jobs.Request{User: user, Kind: kind.Kind().Name, Params: raw}
	for _, option := range options {
		option(&r)
	}
	return r, nil
}

// Enqueue is [Enqueue] for a request whose kind is known only at run time.
func (c *Client) Enqueue(ctx context.Context, r jobs.Request) (jobs.Job, error) {
	job, _, err := c.store.Enqueue(ctx, r)
	return job, err
}

// EnqueueAll enqueues several jobs, a hundred for each round trip, and returns them in the order of the requests. All requests
// are checked before any job is stored.
//
// The error is a [*jobs.BatchError] for the first failed request. Unless it wraps a [*jobs.InvalidError] or
// [jobs.ErrKindUnknown], other jobs may be stored; the returned jobs then have ids. A second call with the same idempotency keys
// stores the missing ones.
func (c *Client) EnqueueAll(ctx context.Context, requests []jobs.Request) ([]jobs.Job, error) {
	return c.store.EnqueueAll(ctx, requests)
}
