package joblog

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hark-jobs/hark/jobs"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"
)

// The chunks of a file are on the subject <user>.<job>.<lease>.<unique> of the bucket. So the server itself counts the chunks
// of a user, including those of unfinished files and of dead workers. There is no second count that could be wrong after a
// crash, an expiry or a delete.

// userFiles returns the token of a user in the subjects of chunks. It has a fixed length, since there is a subject for
// each file.
func userFiles(user string) string {
	sum := sha256.Sum256([]byte(user))
	return hex.EncodeToString(sum[:16])
}

// filesOf returns the prefix of the subjects of all chunks of a job.
func filesOf(j *jobs.Job) string { return userFiles(j.User) + "." + j.ID + "." }

// newChunks returns the subject suffix for a new file of the job's current lease.
func newChunks(j *jobs.Job) string {
	return fmt.Sprintf("%s%d-%d-%d.%s", filesOf(j), j.Run, j.Attempt, j.Lost, nuid.Next())
}

// fencing returns the numbers that grow, in lexical order, with each lease of a job.
func fencing(j *jobs.Job) []int { return []int{j.Run, j.Attempt, j.Lost} }

// leaseOfChunks is the inverse of newChunks. It sets the id and the numbers of the lease.
func leaseOfChunks(id, nuid string) (of jobs.Job, ok bool) {
	words := strings.Split(nuid, ".")
	if len(words) != 4 {
		return jobs.Job{}, false
	}
	of.ID = id
	_, err := fmt.Sscanf(words[2], "%d-%d-%d", &of.Run, &of.Attempt, &of.Lost)
	return of, err == nil
}

// room is the space, in chunks, that a user has left for a file that is being stored.
type room struct {
	store  *Store
	user   string
	limit  int64         // bytes
	except int64         // chunks of the file that this one replaces
	lag    time.Duration // how long a replica may still count removed chunks

	left  int64 // chunks; negative over the limit
	known int   // chunks sent since the last measurement
}

// measureEvery is how many chunks, 16 MiB, are sent before the room is measured again: other files of the user may be
// stored at the same time.
const measureEvery = 128

// replicaLag is how long a replica may lag behind its leader. It catches up with the next message or heartbeat;
// heartbeats come every second.
const replicaLag = 2 * time.Second

// lagPause is the pause between two measurements of a replica that may lag.
const lagPause = replicaLag / 10

// enterRoom removes the files of the job's earlier leases, reads the settings of the bucket, and returns the room for a
// new file of the job, which replaces before. Without room it returns a [*jobs.UserFullError].
func (q *Store) enterRoom(ctx context.Context, job *jobs.Job, before *jetstream.ObjectInfo) (*room, error) {
	info, err := q.sweepFiles(ctx, job, -1)
	if err != nil {
		return nil, err
	}
	// [Setup] may have changed the age of files.
	q.fileAge.Store(int64(fileAgeOf(&info.Config)))
	r := &room{store: q, user: job.User, limit: userSpaceOf(&info.Config)}
	if before != nil {
		r.except = int64(before.Chunks)
	}
	if info.Config.Replicas > 1 {
		r.lag = replicaLag
	}
	return r, r.measure(ctx, 1)
}

// Room implements [files.Store].
func (q bucketFiles) Room(ctx context.Context, job *jobs.Job) error {
	return soon(ctx, func(ctx context.Context) error {
		before, err := q.fileInfo(ctx, object(job))
		if err == nil {
			_, err = q.enterRoom(ctx, job, before)
		}
		var full *jobs.UserFullError
		if err != nil && !errors.As(err, &full) {
			err = fmt.Errorf("joblog: room for a file: %w", err)
		}
		return err
	})
}

// stale reports whether the room must be measured before another chunk is sent.
func (r *room) stale() bool { return r.left <= 0 || r.known >= measureEvery }

// take counts a chunk that is sent.
func (r *room) take() {
	r.left--
	r.known++
}

// measure asks the server for the number of chunks, and returns a [*jobs.UserFullError] if there is no room for more of
// them. No chunk may be on its way to the server.
func (r *room) measure(ctx context.Context, more int64) error {
	return soon(ctx, func(ctx context.Context) error {
		// The pauses are counted, and not the time: a process that stands still for a while would ask too few times.
		for waited := time.Duration(0); ; waited += lagPause {
			stored, err := r.store.countChunks(ctx, userFiles(r.user)+".>")
			if err != nil {
				return err
			}
			r.known, r.left = 0, r.limit/chunkSize-(stored-r.except)
			if r.left >= more {
				return nil
			}
			if waited >= r.lag {
				return &jobs.UserFullError{Limit: r.limit}
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(lagPause):
			}
		}
	})
}

// countChunks returns the number of chunks whose NUIDs match. It costs one read of one chunk: the server sends the
// number of further matches with it.
func (q *Store) countChunks(ctx context.Context, nuids string) (n int64, err error) {
	pending, err := q.bulkFrom(ctx, q.ns.FilesStream(), directRequest{Batch: 1, NextBySubject: q.chunksSubject(nuids)},
		func(*storedMsg) error { n++; return nil })
	return n + int64(pending), err
}

// sweepFiles removes the files of the job's leases whose fencing compares with that of job as one of which: -1 is
// earlier leases, 0 is this one. It never removes a later one: job may have lost its lease. It returns the info of the
// bucket.
func (q *Store) sweepFiles(ctx context.Context, job *jobs.Job, which ...int) (*jetstream.StreamInfo, error) {
	info, err := q.files.Info(ctx, jetstream.WithSubjectFilter(q.chunksSubject(filesOf(job)+">")))
	if err != nil {
		return nil, err
	}
	for subject := range info.State.Subjects { // a job has a few
		nuid := strings.TrimPrefix(subject, q.chunksSubject(""))
		of, ok := leaseOfChunks(job.ID, nuid)
		if !ok || !slices.Contains(which, slices.Compare(fencing(&of), fencing(job))) {
			continue
		}
		if err := q.deleteObject(ctx, object(&of)); err != nil {
			return nil, err
		}
		if err := q.purgeChunks(ctx, nuid); err != nil { // the chunks of an unfinished file have no object
			return nil, err
		}
	}
	return info, nil
}

// Expire implements [files.Store]. The bucket deletes what has expired itself.
func (q bucketFiles) Expire(context.Context, time.Time) error { return nil }

// Sweep implements [files.Store].
func (q bucketFiles) Sweep(ctx context.Context, job *jobs.Job) error {
	if _, err := q.sweepFiles(ctx, job, -1); err != nil {
		return fmt.Errorf("joblog: sweep files: %w", err)
	}
	return nil
}
