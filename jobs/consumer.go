package jobs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// workerPrefix begins the names of the workers' consumers.
const workerPrefix = "worker-"

// OpenWorkerConsumer binds to the durable consumer that all workers of a kind share, and creates it if it is missing. It
// returns the consumer's name and its lease: a job that was delivered and not acked within it is delivered again. A new
// consumer gets the lease that the stream has been set to.
//
// There is no limit of deliveries, since the state counts the attempts, and none of the messages under
// way: a job that waits for its next attempt counts as one, and a thousand of those must not stop a kind.
func (q *Queue) OpenWorkerConsumer(ctx context.Context, kind string) (name string, lease time.Duration, err error) {
	name = workerPrefix + kind
	consumer, err := q.bindConsumer(ctx, name, storeRoot+"*.job."+kind+".*")
	if err != nil {
		return "", 0, fmt.Errorf("jobs: consumer %s: %w", name, err)
	}
	return name, consumer.CachedInfo().Config.AckWait, nil
}

func (q *Queue) bindConsumer(ctx context.Context, name, subject string) (jetstream.Consumer, error) {
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
