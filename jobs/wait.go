package jobs

import (
	"context"
	"time"

	"github.com/nats-io/nats.go"
)

// Wait blocks until the job has ended, or for d, and returns it as it stands then.
func (q *Queue) Wait(ctx context.Context, job Job, d time.Duration) (Job, error) {
	live := make(chan *nats.Msg, 16)
	sub, err := q.nc.ChanSubscribe(LiveStateSubject(job.User, job.ID), live)
	if err != nil {
		return job, err
	}
	defer sub.Unsubscribe()
	over := time.NewTimer(d)
	defer over.Stop()
	// What the live message would say is looked up once in a while, should it be lost.
	look := time.NewTicker(time.Second)
	defer look.Stop()
	for {
		latest, err := q.Get(ctx, job.User, job.ID)
		if err != nil || latest.State.Terminal() {
			return latest, err
		}
		select {
		case <-live:
		case <-look.C:
		case <-over.C:
			return latest, nil
		case <-ctx.Done():
			return latest, ctx.Err()
		}
	}
}
