package jobs

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// OpenWorkerConsumer finds or makes the durable consumer that all workers of a kind share, and returns its
// name. A job that was delivered and not acked within lease is delivered again.
//
// There is no limit of deliveries, since the state counts the attempts, and none of the messages under
// way: a job that waits for its next attempt counts as one, and a thousand of those must not stop a kind.
func (q *Queue) OpenWorkerConsumer(ctx context.Context, kind string, lease time.Duration) (name string, err error) {
	name = "worker-" + kind
	_, err = q.stream.CreateOrUpdateConsumer(ctx, jetstream.ConsumerConfig{
		Durable: name, FilterSubject: storeRoot + "*.job." + kind + ".*",
		AckPolicy: jetstream.AckExplicitPolicy, AckWait: lease,
		MaxDeliver: -1, MaxAckPending: -1, MaxWaiting: 4096, DeliverPolicy: jetstream.DeliverAllPolicy,
	})
	if err != nil {
		return "", fmt.Errorf("jobs: consumer %s: %w", name, err)
	}
	return name, nil
}
