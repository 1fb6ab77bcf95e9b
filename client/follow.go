package client

import (
	"context"
	"time"

	"github.com/hark-jobs/hark/jobs"
)

// The intervals of reading a job that is followed: with a connected stream, and without.
const (
	streamInterval = 15 * time.Second
	pollInterval   = 2 * time.Second
)

// FollowOptions are the options of [Client.Follow]. Follow calls the functions on its own goroutine, one at a time.
type FollowOptions struct {
	// OnJob, if set, is called with each newer version of the job, the last included.
	OnJob func(jobs.Job)
	// OnTrouble, if set, is called with the reason while the job cannot be read, and with nil when it can again.
	OnTrouble func(error)
}

// Follow blocks until the job has ended, and returns it. It uses the user's stream, and also reads the job every 15 s. It
// survives restarts of the server. A job of another user is not in the stream: Follow reads it every 2 s, for which the token needs
// the scope enqueue if it enqueued the job, and admin otherwise.
//
// The error is the first one that is not [Temporary], such as [jobs.ErrNotFound], or that of ctx. Follow then returns the last
// version of the job that it has read.
func (c *Client) Follow(ctx context.Context, job jobs.Job, o FollowOptions) (jobs.Job, error) {
	f := follower{client: c, o: o, job: job}
	if o.OnJob != nil {
		o.OnJob(job)
	}
	if job.State.Terminal() {
		return job, nil
	}
	ctx, cancel := context.WithCancel(ctx)
	updates := make(chan streamUpdate)
	done := make(chan struct{})
	go func() { defer close(done); c.listen(ctx, job, updates) }()
	err := f.run(ctx, updates)
	cancel()
	<-done
	return f.job, err
}

// streamUpdate is a change of the stream, or of the job: one field is set.
type streamUpdate struct {
	connected bool      // The stream is connected. Earlier changes must be read.
	lost      error     // The stream is interrupted.
	job       *jobs.Job // A version of the job.
}

type follower struct {
	client    *Client
	o         FollowOptions
	job       jobs.Job
	connected bool
	failing   bool // the last read has failed
}

// listen sends the stream's updates about a job until ctx ends. It returns early if the stream ends for good, or belongs to another
// user. Then the follower only reads.
func (c *Client) listen(ctx context.Context, job jobs.Job, updates chan<- streamUpdate) {
	send := func(u streamUpdate) {
		select {
		case updates <- u:
		case <-ctx.Done():
		}
	}
	lost := func(err error, _ time.Duration) { send(streamUpdate{lost: err}) }
	for event, err := range c.Stream(ctx, StreamOptions{OnRetry: lost}) {
		switch {
		case err != nil:
			send(streamUpdate{lost: err})
		case event.Type == EventHello:
			if foreign(event, job.User) {
				return
			}
			send(streamUpdate{connected: true})
		case event.Type == EventJob:
			if changed, err := event.Job(); err == nil && changed.ID == job.ID {
				send(streamUpdate{job: &changed})
			}
		}
	}
}

// foreign reports whether a hello event is from another user's stream.
func foreign(hello Event, user string) bool {
	data, err := decode[struct {
		User string `json:"user"`
	}](&hello)
	return err == nil && data.User != "" && user != "" && data.User != user
}

func (f *follower) run(ctx context.Context, updates <-chan streamUpdate) error {
	poll := time.NewTimer(pollInterval)
	defer poll.Stop()
	for !f.job.State.Terminal() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case u := <-updates:
			switch {
			case u.job != nil:
				f.update(*u.job)
				continue
			case u.lost != nil && !f.connected:
				continue // The time of the next read does not change.
			}
			f.connected = u.connected
		case <-poll.C:
		}
		if err := f.read(ctx); err != nil {
			return err
		}
		if f.connected {
			poll.Reset(streamInterval)
		} else {
			poll.Reset(pollInterval)
		}
	}
	return nil
}

// read reads the job. It returns permanent errors only.
func (f *follower) read(ctx context.Context) error {
	readCtx, cancel := context.WithTimeout(ctx, streamInterval)
	defer cancel()
	job, err := f.client.Job(readCtx, f.job.ID)
	switch {
	case err == nil:
		f.report(nil)
		f.update(job)
	case ctx.Err() != nil:
		return ctx.Err()
	case Temporary(err) || readCtx.Err() != nil:
		f.report(err)
	default:
		return err
	}
	return nil
}

func (f *follower) report(err error) {
	if f.o.OnTrouble != nil && (err != nil || f.failing) {
		f.o.OnTrouble(err)
	}
	f.failing = err != nil
}

// update replaces the job if this version is newer.
func (f *follower) update(job jobs.Job) {
	if job.Revision <= f.job.Revision {
		return
	}
	f.job = job
	if f.o.OnJob != nil {
		f.o.OnJob(job)
	}
}
