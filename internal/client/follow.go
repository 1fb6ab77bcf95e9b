package client

import (
	"context"
	"time"

	"github.com/hark-jobs/hark/jobs"
)

// How often a job that is followed is asked for: seldom while the stream tells of it.
const (
	pollListening = 15 * time.Second
	pollAlone     = 2 * time.Second
)

// FollowOptions say who hears of the job on its way. Both are called by one goroutine at a time.
type FollowOptions struct {
	// OnJob hears of every newer version of the job, the last included.
	OnJob func(jobs.Job)
	// OnTrouble hears why nothing is known at the moment; nil says that it is over.
	OnTrouble func(error)
}

// Follow returns the job once it has ended. It listens to the stream, asks for the job as well in case the
// stream is not to be had, and outlives restarts of the server. The error is what no second try mends, or
// the context's.
func (c *Client) Follow(ctx context.Context, job jobs.Job, o FollowOptions) (jobs.Job, error) {
	f := follower{client: c, o: o, job: job}
	if o.OnJob != nil {
		o.OnJob(job)
	}
	if job.State.Terminal() {
		return job, nil
	}
	ctx, cancel := context.WithCancel(ctx)
	news := make(chan bulletin)
	done := make(chan struct{})
	go func() { defer close(done); c.listen(ctx, job.ID, news) }()
	err := f.run(ctx, news)
	cancel()
	<-done
	return f.job, err
}

// bulletin is what the stream has to say.
type bulletin struct {
	listening bool      // hello was heard: what happened before it must be asked for
	lost      error     // the stream is interrupted
	job       *jobs.Job // there is a version of the job
}

type follower struct {
	client    *Client
	o         FollowOptions
	job       jobs.Job
	listening bool
	trouble   bool
}

// listen sends news of a job until ctx ends or the stream does for good: from then on polling must do.
func (c *Client) listen(ctx context.Context, id string, news chan<- bulletin) {
	send := func(b bulletin) {
		select {
		case news <- b:
		case <-ctx.Done():
		}
	}
	lost := func(err error, _ time.Duration) { send(bulletin{lost: err}) }
	for event, err := range c.Stream(ctx, StreamOptions{OnRetry: lost}) {
		switch {
		case err != nil:
			send(bulletin{lost: err})
		case event.Type == EventHello:
			send(bulletin{listening: true})
		case event.Type == EventJob:
			if job, err := event.Job(); err == nil && job.ID == id {
				send(bulletin{job: &job})
			}
		}
	}
}

func (f *follower) run(ctx context.Context, news <-chan bulletin) error {
	poll := time.NewTimer(pollAlone)
	defer poll.Stop()
	for !f.job.State.Terminal() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case b := <-news:
			switch {
			case b.job != nil:
				f.update(*b.job)
				continue
			case b.lost != nil && !f.listening:
				continue // as before; the next poll stays due
			}
			f.listening = b.listening
		case <-poll.C:
		}
		if err := f.ask(ctx); err != nil {
			return err
		}
		if f.listening {
			poll.Reset(pollListening)
		} else {
			poll.Reset(pollAlone)
		}
	}
	return nil
}

// ask gets the job and returns the error if it is one to give up for.
func (f *follower) ask(ctx context.Context) error {
	within, cancel := context.WithTimeout(ctx, pollListening)
	defer cancel()
	job, err := f.client.Job(within, f.job.ID)
	switch {
	case err == nil:
		f.report(nil)
		f.update(job)
	case ctx.Err() != nil:
		return ctx.Err()
	case Temporary(err) || within.Err() != nil:
		f.report(err)
	default:
		return err
	}
	return nil
}

func (f *follower) report(err error) {
	if f.o.OnTrouble != nil && (err != nil || f.trouble) {
		f.o.OnTrouble(err)
	}
	f.trouble = err != nil
}

// update takes the version if it is newer than the one known.
func (f *follower) update(job jobs.Job) {
	if job.Revision <= f.job.Revision {
		return
	}
	f.job = job
	if f.o.OnJob != nil {
		f.o.OnJob(job)
	}
}
