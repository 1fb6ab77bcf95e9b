package joblog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// clockPrefix begins the keys in the bucket of kinds that record the time of the NATS server, one for each kind and stream:
// clock.<kind>, and for another stream than the first clock.<kind>.<its first shard>. The dot keeps them apart from the names
// of kinds.
const clockPrefix = "clock."

const (
	clockOK    = "ok"
	clockReset = "reset" // the deliveries of the kind are about to be reset
)

// resetTime is how long a process may take to reset the deliveries of a kind. After that another process does it.
const resetTime = 10 * time.Second

// ErrClockWentBack is returned by [Store.CheckClock] when the deliveries could not be reset.
var ErrClockWentBack = errors.New("joblog: the clock of the NATS server went back; jobs that were under way wait until it has caught up")

// CheckClock reports how far the clock of the NATS server went back since any process last called it for the kind and the
// stream, by its number, and records the server's time: that of the leader of the consumer. If the clock went back by more than a lease, CheckClock resets the consumer, so that jobs under
// way are delivered again at once: the server measures leases and retry delays from a time of day, also across a restart,
// and would otherwise wait until its clock has caught up. Both times are the server's own.
//
// CheckClock returns 0 if the clock did not go back, or if another process has reset the consumer. It returns
// [ErrClockWentBack] if the reset failed. It blocks for three or four round trips.
func (q *Store) CheckClock(ctx context.Context, number int, kind string) (back time.Duration, err error) {
	ctx, cancel := withTimeout(ctx)
	defer cancel()
	stream, err := q.stream(number)
	if err != nil {
		return 0, err
	}
	consumer, err := stream.Consumer(ctx, q.ns.WorkerConsumer(kind))
	if err != nil {
		return 0, fmt.Errorf("joblog: clock: %w", err)
	}
	info := consumer.CachedInfo()
	key, now := clockPrefix+kind, info.TimeStamp
	if number > 0 {
		key += "." + firstShard(number, q.Streams())
	}
	entry, err := q.kinds.bucket.Get(ctx, key)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		_, err = q.kinds.bucket.Create(ctx, key, []byte(clockOK))
		return 0, clockError(err)
	}
	if err != nil {
		return 0, fmt.Errorf("joblog: clock: %w", err)
	}
	back = entry.Created().Sub(now)
	if !wentBack(back, string(entry.Value()), info.Config.AckWait) {
		_, err := q.kinds.bucket.Update(ctx, key, []byte(clockOK), entry.Revision())
		return 0, clockError(err)
	}
	// Only one process resets: a second reset would take the jobs away from the workers that got them after the first.
	revision, err := q.kinds.bucket.Update(ctx, key, []byte(clockReset), entry.Revision())
	if err != nil {
		return 0, clockError(err)
	}
	if _, err := q.js.ResetConsumer(ctx, stream.name, q.ns.WorkerConsumer(kind)); err != nil {
		return back, fmt.Errorf("%w: %w", ErrClockWentBack, err)
	}
	_, err = q.kinds.bucket.Update(ctx, key, []byte(clockOK), revision)
	return max(back, 1), clockError(err)
}

// wentBack reports whether the deliveries must be reset: the recorded time is ahead of the server's by more than a lease,
// or another process has begun a reset and did not finish it.
func wentBack(ahead time.Duration, noted string, lease time.Duration) bool {
	return ahead > lease || noted == clockReset && ahead < -resetTime
}

// clockError returns nil if another process was faster.
func clockError(err error) error {
	if err == nil || errors.Is(err, jetstream.ErrKeyExists) || isConflict(err) || IsTransient(err) {
		return nil
	}
	return fmt.Errorf("joblog: clock: %w", err)
}
