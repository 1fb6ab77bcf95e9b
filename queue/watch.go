package queue

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/hark-jobs/hark/internal/joblog"
	"github.com/hark-jobs/hark/jobs"
)

// ErrReset ends a [Client.Watch] that cannot continue after a position: events after it have expired, or the epoch of the log is
// another one. The caller should list the jobs, and watch from now on.
var ErrReset = errors.New("queue: the events after this position are no longer there")

// Event is an event of a user. One of Job and Notification is set.
type Event struct {
	// Position is where a later Watch, or an event stream of the user, continues after this event.
	Position     jobs.Position
	Job          *jobs.Job // as it is after the event, or later
	Notification *jobs.Notification
}

// Watch yields the events of a user, including broadcasts, in the order of the log, and blocks for the next one until ctx ends.
// With the zero position it begins at the end of the log. With the position of an event it continues after that event, without a
// gap, as long as the stream keeps the events. The id of an event of an event stream is such a position ([jobs.ParsePosition]). Job states are merged: of several states in between it may yield only the last.
//
// An error is the last value: [ErrReset], or the error of ctx. A lost connection to NATS is not an error. Each call costs the NATS
// server a consumer, about 32 KB, so Watch is for services that watch a few users. Browsers use the streams of the notifier.
func (c *Client) Watch(ctx context.Context, user string, after jobs.Position) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		err := c.store.Watch(ctx, user, after, func(e joblog.Event) bool {
			return yield(Event{Position: e.Position, Job: e.Job, Notification: e.Notification}, nil)
		})
		if errors.Is(err, joblog.ErrReset) {
			err = ErrReset
		}
		if err != nil {
			yield(Event{}, err)
		}
	}
}

// followPause is how long [Client.Follow] waits for a change before it reads the job again.
const followPause = 30 * time.Second

// Follow yields the current version of a job, and the latest version after changes, until the job has ended or ctx ends. An error
// is the last value: [jobs.ErrNotFound], or the error of ctx.
func (c *Client) Follow(ctx context.Context, user, id string) iter.Seq2[jobs.Job, error] {
	return func(yield func(jobs.Job, error) bool) {
		var last uint64
		for {
			job, err := c.store.WaitForChange(ctx, user, id, last, followPause)
			if err != nil {
				yield(jobs.Job{}, fmt.Errorf("queue: follow: %w", err))
				return
			}
			if job.Revision > last {
				last = job.Revision
				if !yield(job, nil) {
					return
				}
			}
			if job.State.Terminal() {
				return
			}
		}
	}
}
