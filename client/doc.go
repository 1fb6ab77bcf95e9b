// Package client is how a Go program reaches hark over HTTP (docs/api.md): it enqueues jobs, follows them, downloads their files,
// reads event streams and inboxes, and sends notifications. It needs no NATS; a service that has access to NATS may use package
// queue, which has the same calls.
//
//	var Report = jobs.Define[ReportParams](jobs.Kind{Name: "report"})
//
//	c, err := client.New(client.Options{URL: "https://hark.example.com", Token: token})
//	job, err := client.Enqueue(ctx, c, Report, ReportParams{Pages: 20})
//	job, err = c.Follow(ctx, job, client.FollowOptions{})
//	n, err := c.Download(ctx, job.ID, file)
//
// # Identity
//
// A call acts for the user of its token and sees what belongs to that user. A service has a token with scopes: enqueue to enqueue
// for others ([User]) and to follow and cancel these jobs, notify to send notifications, admin to read and change all jobs and
// to revoke tokens.
//
// # Errors
//
// The error of a call is a [*Problem] if the server refused it, an [*UnreachableError] if there was no response or an incomplete one, and
// that of the context if the context ended first. [Temporary] reports whether the same call may succeed later. A refused call had
// no effect. A call without a response may have had one: an idempotency key, or the key of a notification, makes it safe to repeat.
//
// A problem is also the error of package jobs that it stands for: errors.Is(err, jobs.ErrNotFound) holds for a job that is not
// there.
//
// # Blocking
//
// Calls block until the server has answered or the context ends; there is no other limit, unless the HTTP client has one. Calls
// are made once, except for [Client.Follow], [Client.Stream] and [Client.Download], which connect again by themselves.
package client
