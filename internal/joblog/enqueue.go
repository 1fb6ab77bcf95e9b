package joblog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hark-jobs/hark/jobs"
)

// Enqueue stores a job and returns it. If the user has used the idempotency key before, it returns the first job, and
// created is false.
//
// Errors: an [*jobs.InvalidError] for a request that is never valid, [jobs.ErrKindUnknown], [jobs.ErrKeyReused], or an
// error of the server.
func (q *Store) Enqueue(ctx context.Context, r jobs.Request) (job jobs.Job, created bool, err error) {
	if err := r.Check(); err != nil {
		return jobs.Job{}, false, err
	}
	spec, err := q.spec(ctx, &r)
	if r.IdempotencyKey == "" {
		if err != nil {
			return jobs.Job{}, false, err
		}
		ack, err := q.publishSpec(ctx, spec, expectLast(0))
		return accepted(spec, ack, err)
	}
	id := keyedID(r.User, r.IdempotencyKey)
	if err != nil {
		// The kind may have changed since the first request, and may not accept it any more.
		if job, findErr := q.first(ctx, &r, id); findErr == nil || errors.Is(findErr, jobs.ErrKeyReused) {
			return job, false, findErr
		}
		return jobs.Job{}, false, err
	}
	spec.ID, spec.Request = id, r.Fingerprint()
	// The same key with another kind is another subject. There must be no spec of any kind.
	ack, err := q.publishSpec(ctx, spec, expectLastOn(q.ns.SpecSubject(r.User, "*", id), 0))
	if isConflict(err) {
		job, err := q.first(ctx, &r, id)
		if errors.Is(err, jobs.ErrNotFound) { // the stored message is malformed, so this request did not write it
			err = jobs.ErrKeyReused
		}
		return job, false, err
	}
	return accepted(spec, ack, err)
}

// spec validates a request against its kind, and returns the spec to store.
func (q *Store) spec(ctx context.Context, r *jobs.Request) (*Spec, error) {
	kind, err := q.Kind(ctx, r.Kind)
	if err != nil {
		return nil, err
	}
	params, err := kind.Check(r.Params)
	if err != nil {
		return nil, err
	}
	claims, err := kind.TakeClaims(r.Claims, params)
	if err != nil {
		return nil, err
	}
	spec := &Spec{
		ID: newID(), Kind: r.Kind, Title: r.Title, User: r.User, EnqueuedBy: r.EnqueuedBy, Params: params, Claims: claims, Metadata: r.Metadata,
		MaxAttempts: r.MaxAttempts, CreatedAt: time.Now().UTC().Truncate(time.Millisecond), Run: 1,
	}
	if spec.Title == "" {
		spec.Title = kind.JobTitle(params)
	}
	if spec.MaxAttempts == 0 {
		spec.MaxAttempts = max(kind.MaxAttempts, 1)
	}
	return spec, nil
}

// accepted returns the job of a published spec.
func accepted(spec *Spec, ack ack, err error) (jobs.Job, bool, error) {
	if err != nil {
		return jobs.Job{}, false, fmt.Errorf("joblog: enqueue: %w", err)
	}
	job := spec.Job()
	job.Revision = ack.seq
	return job, true, nil
}

// first returns the job that an earlier request stored under r's idempotency key, whose id is given. It returns
// [jobs.ErrKeyReused] if that request was a different one.
func (q *Store) first(ctx context.Context, r *jobs.Request, id string) (jobs.Job, error) {
	s, err := q.ReadLeader(ctx, r.User, r.Kind, id)
	if errors.Is(err, jobs.ErrNotFound) {
		s, err = q.ReadLeader(ctx, r.User, "*", id)
	}
	if err != nil {
		return jobs.Job{}, err
	}
	if s.Spec == nil || s.Spec.Request != r.Fingerprint() {
		return jobs.Job{}, jobs.ErrKeyReused
	}
	return s.Job, nil
}
