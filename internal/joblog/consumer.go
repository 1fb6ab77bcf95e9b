package joblog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// OpenWorkerConsumer binds to the durable consumer that all workers of a kind share, and creates it if it is missing. It
// returns the subject of pull requests, and the lease: a job that is not acked within the lease is delivered again. A new consumer
// gets the lease of the stream's settings.
//
// The consumer has no limit of deliveries, since the state counts the attempts. It has no limit of pending acks either:
// a job that waits for its next attempt counts as pending, and a thousand of those must not stop a kind.
func (q *Store) OpenWorkerConsumer(ctx context.Context, kind string) (pull string, lease time.Duration, err error) {
	name := q.ns.WorkerConsumer(kind)
	consumer, err := q.bindConsumer(ctx, name, q.ns.SpecSubjects(kind, "*"))
	if err != nil {
		return "", 0, fmt.Errorf("joblog: consumer %s: %w", name, err)
	}
	return q.api + "CONSUMER.MSG.NEXT." + q.ns.LogStream() + "." + name, consumer.CachedInfo().Config.AckWait, nil
}

func (q *Store) bindConsumer(ctx context.Context, name, subject string) (jetstream.Consumer, error) {
	found, err := q.stream.Consumer(ctx, name)
	if !errors.Is(err, jetstream.ErrConsumerNotFound) {
		return found, err
	}
	stream, err := q.stream.Info(ctx) // the lease may have been changed since the queue was opened
	if err != nil {
		return nil, err
	}
	created, err := q.stream.CreateConsumer(ctx, jetstream.ConsumerConfig{
		Durable: name, FilterSubject: subject,
		AckPolicy: jetstream.AckExplicitPolicy, AckWait: leaseOf(&stream.Config),
		MaxDeliver: -1, MaxAckPending: -1, MaxWaiting: 4096, DeliverPolicy: jetstream.DeliverAllPolicy,
	})
	if errors.Is(err, jetstream.ErrConsumerExists) {
		return q.stream.Consumer(ctx, name)
	}
	return created, err
}
