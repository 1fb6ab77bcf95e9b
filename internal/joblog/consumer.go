package joblog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// OpenWorkerConsumer binds to the durable consumer that all workers of a kind share on a stream of the log, by its number,
// and creates it if it is missing. It returns the subject of pull requests, and the lease: a job that is not acked within the
// lease is delivered again. A new consumer gets the lease of the stream's settings.
//
// The consumer has no limit of deliveries, since the state counts the attempts. It has no limit of pending acks either:
// a job that waits for its next attempt counts as pending, and a thousand of those must not stop a kind.
func (q *Store) OpenWorkerConsumer(ctx context.Context, number int, kind string) (pull string, lease time.Duration, err error) {
	name := q.ns.WorkerConsumer(kind)
	stream, err := q.stream(number)
	if err != nil {
		return "", 0, err
	}
	consumer, err := stream.bindConsumer(ctx, name, q.ns.SpecSubjects(kind, "*"))
	if err != nil {
		return "", 0, fmt.Errorf("joblog: consumer %s of the stream %s: %w", name, stream.name, err)
	}
	return q.api + "CONSUMER.MSG.NEXT." + stream.name + "." + name, consumer.CachedInfo().Config.AckWait, nil
}

func (k *keptStream) bindConsumer(ctx context.Context, name, subject string) (jetstream.Consumer, error) {
	found, err := k.Consumer(ctx, name)
	if !errors.Is(err, jetstream.ErrConsumerNotFound) {
		return found, err
	}
	info, err := k.Info(ctx) // the lease may have been changed since the queue was opened
	if err != nil {
		return nil, err
	}
	created, err := k.CreateConsumer(ctx, jetstream.ConsumerConfig{
		Durable: name, FilterSubject: subject,
		AckPolicy: jetstream.AckExplicitPolicy, AckWait: leaseOf(&info.Config),
		MaxDeliver: -1, MaxAckPending: -1, MaxWaiting: 4096, DeliverPolicy: jetstream.DeliverAllPolicy,
	})
	if errors.Is(err, jetstream.ErrConsumerExists) {
		return k.Consumer(ctx, name)
	}
	return created, err
}
