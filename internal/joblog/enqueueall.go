package joblog

import (
	"context"
	"errors"

	"github.com/hark-jobs/hark/jobs"
	"github.com/nats-io/nats.go"
)

// EnqueueAll enqueues several jobs and returns them in the order of the requests. All requests are validated before any
// job is stored. The error is a [*jobs.BatchError] for the first failed request. Other jobs may be stored even then;
// their jobs have ids.
func (q *Store) EnqueueAll(ctx context.Context, requests []jobs.Request) ([]jobs.Job, error) {
	all := make([]jobs.Job, len(requests))
	specs, msgs := make([]*Spec, len(requests)), make([]*nats.Msg, len(requests))
	for i := range requests {
		r := &requests[i]
		err := r.Check()
		if err == nil {
			specs[i], err = q.spec(ctx, r)
		}
		if err == nil {
			header := expectLast(0)
			if r.IdempotencyKey != "" {
				specs[i].ID, specs[i].Request = keyedID(r.User, r.IdempotencyKey), r.Fingerprint()
				header = expectLastOn(q.ns.SpecSubject(r.User, "*", specs[i].ID), 0)
			}
			msgs[i], err = q.specMessage(specs[i], header)
		}
		if err != nil {
			return nil, &jobs.BatchError{Index: i, Err: err}
		}
	}
	var failed error
	for i, a := range q.writes.publishAll(ctx, msgs) {
		var err error
		if requests[i].IdempotencyKey != "" && isConflict(a.err) {
			all[i], err = q.first(ctx, &requests[i], specs[i].ID)
			if errors.Is(err, jobs.ErrNotFound) {
				err = jobs.ErrKeyReused
			}
		} else {
			all[i], _, err = accepted(specs[i], a.ack, a.err)
		}
		if err != nil && failed == nil {
			failed = &jobs.BatchError{Index: i, Err: err}
		}
	}
	return all, failed
}
