// Package queue is the client for Go services over NATS: it enqueues, lists, cancels, retries and watches the jobs of users, and
// sends notifications.
//
//	var Report = jobs.Define[ReportParams](jobs.Kind{Name: "report"})
//
//	q, err := queue.Open(ctx, nc, queue.Options{})
//	job, err := queue.Enqueue(ctx, q, Report, "ana", ReportParams{Pages: 20})
//	for job, err := range q.Follow(ctx, "ana", job.ID) {
//		…
//	}
//
// It trusts its caller: a program with access to hark's subjects may act for every user. A service without access to NATS uses
// package client.
package queue

import (
	"context"
	"log/slog"
	"time"

	"github.com/hark-jobs/hark/files"
	"github.com/hark-jobs/hark/internal/joblog"
	"github.com/hark-jobs/hark/jobs"
	"github.com/nats-io/nats.go"
)

// Options of a client. The zero value means the defaults.
type Options struct {
	// Namespace is that of the hark to use. Defaults to hark.
	Namespace string
	// JSDomain is the JetStream domain of hark's stream, for a program that connects to a leaf node. Defaults to none.
	JSDomain string
	// JSAPIPrefix is the prefix of JetStream's API, for an account that imports it under another name. It excludes JSDomain.
	// Defaults to $JS.API.
	JSAPIPrefix string
	// Bulk is a connection for bulk data that can wait: lists, and files that a worker stores. The client does not close it.
	// Defaults to the connection of [Open].
	Bulk *nats.Conn
	// Files is where a worker on this client stores the files of jobs: the same as that of the notifiers. Defaults to a bucket
	// in JetStream.
	Files files.Store
	// Logger logs skipped messages, and settings that differ from those that exist. Defaults to slog.Default().
	Logger *slog.Logger
}

// Client reads and writes jobs and notifications. Unless documented otherwise, its methods block for one or a few round trips to
// the NATS server, at most 5 s if ctx has no deadline, and are safe for concurrent use.
type Client struct{ store *joblog.Store }

// Open returns a client of hark's stream on the server of nc. It creates missing streams and buckets with the defaults of hark
// setup, and never changes existing ones. It does not close nc. The caller must call [Client.Close].
func Open(ctx context.Context, nc *nats.Conn, o Options) (*Client, error) {
	at := joblog.Location{Namespace: joblog.Namespace(o.Namespace), Domain: o.JSDomain, APIPrefix: o.JSAPIPrefix}
	store, err := joblog.Open(ctx, nc, joblog.Options{Location: at, Bulk: o.Bulk, Files: o.Files, Logger: o.Logger})
	if err != nil {
		return nil, err
	}
	return &Client{store}, nil
}

// New returns a client of an open store. It is for hark's own packages; other programs use [Open].
func New(store *joblog.Store) *Client { return &Client{store} }

// Store returns the store of the client. It is for hark's own packages.
func (c *Client) Store() *joblog.Store { return c.store }

// Close ends the subscriptions of the client. Calls in progress get no response any more and end with their contexts.
func (c *Client) Close() error { return c.store.Close() }

// Kinds returns the kinds that workers have published.
func (c *Client) Kinds(ctx context.Context) ([]*jobs.Kind, error) { return c.store.Kinds(ctx) }

// Get returns a user's job, or [jobs.ErrNotFound].
func (c *Client) Get(ctx context.Context, user, id string) (jobs.Job, error) {
	return c.store.Get(ctx, user, id)
}

// List returns a page of a user's jobs, newest first. A page may have fewer jobs than the limit, and still a cursor for the next page.
func (c *Client) List(ctx context.Context, user string, o jobs.ListOptions) (jobs.Page, error) {
	return c.store.List(ctx, user, o)
}

// Wait blocks until the job has ended, at most for d, and returns its latest version.
func (c *Client) Wait(ctx context.Context, job jobs.Job, d time.Duration) (jobs.Job, error) {
	return c.store.Wait(ctx, job, d)
}

// Cancel cancels a waiting job at once. For a running job it asks the worker to stop, and returns the job, still running, with
// CancelRequested. Cancelling a job twice is not an error.
//
// Errors: [jobs.ErrNotFound], [jobs.ErrEnded].
func (c *Client) Cancel(ctx context.Context, user, id string) (jobs.Job, error) {
	return c.store.Cancel(ctx, user, id)
}

// Retry runs a failed or cancelled job again, as a new run with all its attempts and the same claims.
//
// Errors: [jobs.ErrNotFound], [jobs.ErrNotEnded].
func (c *Client) Retry(ctx context.Context, user, id string) (jobs.Job, error) {
	return c.store.Retry(ctx, user, id, nil)
}

// Notify stores a notification for a user, or for [jobs.Everyone], and returns it with its id. If its key was used for that user
// within the last ten minutes, nothing is stored and the first notification is returned.
//
// Errors: a [*jobs.InvalidError], [jobs.ErrKeyReused] if the first one has other content.
func (c *Client) Notify(ctx context.Context, user string, n jobs.Notification) (jobs.Notification, error) {
	stored, _, err := c.store.Notify(ctx, user, n)
	return stored, err
}

// Publish publishes a live event to the streams that listen to its topic at this moment. It is not stored. It blocks until the
// NATS server has the event. The events of one topic arrive in the order in which this client has published them.
//
// Errors: a [*jobs.InvalidError], or that of the connection; then the event may have been published.
func (c *Client) Publish(ctx context.Context, e jobs.LiveEvent) error {
	return c.store.PublishEvent(ctx, e)
}

// NotifyAll stores several notifications in their order, a hundred for each round trip. All are checked before any is stored.
//
// The error is a [*jobs.BatchError] for the first failed one. Unless it wraps a [*jobs.InvalidError], others may be stored. A
// second call with the same keys stores the missing ones.
func (c *Client) NotifyAll(ctx context.Context, notifications []jobs.Addressed) ([]jobs.Notification, error) {
	stored, _, err := c.store.NotifyAll(ctx, notifications)
	return stored, err
}
