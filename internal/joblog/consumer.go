package joblog

import (
	"context"
	"encoding/json"
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

// Undelivered returns the sequence of the first job request of a kind that the leader of a stream has, and that the workers'
// consumer has not delivered yet, or 0. It costs two requests.
func (q *Store) Undelivered(ctx context.Context, number int, kind string) (seq uint64, err error) {
	stream, err := q.stream(number)
	if err != nil {
		return 0, err
	}
	consumer, err := stream.Consumer(ctx, q.ns.WorkerConsumer(kind))
	if err != nil {
		return 0, err
	}
	info := consumer.CachedInfo()
	if info.Paused { // by an operator
		return 0, nil
	}
	next, err := q.nextOnLeader(ctx, stream.name, q.ns.SpecSubjects(kind, "*"), info.Delivered.Stream+1)
	if err != nil || next == nil {
		return 0, err
	}
	return next.Seq, nil
}

// errAlreadyLeads is JetStream's error code for a leader that cannot be moved, such as one that is where it is to be.
const errAlreadyLeads jetstream.ErrorCode = 10005

// MoveWorkerConsumer has the NATS server that leads a stream lead the workers' consumer of a kind, too. Requests that wait at the
// consumer end with a status.
func (q *Store) MoveWorkerConsumer(ctx context.Context, number int, kind string) error {
	stream, err := q.stream(number)
	if err != nil {
		return err
	}
	info, err := stream.leaderInfo(ctx)
	if err != nil {
		return err
	}
	if info.Cluster == nil {
		return nil // the server is alone
	}
	body, err := json.Marshal(map[string]any{"placement": map[string]string{"preferred": info.Cluster.Leader}})
	if err != nil {
		return err
	}
	m, err := q.nc.RequestWithContext(ctx, q.api+"CONSUMER.LEADER.STEPDOWN."+stream.name+"."+q.ns.WorkerConsumer(kind), body)
	if err != nil {
		return err
	}
	var answer struct {
		Error *jetstream.APIError `json:"error"`
	}
	if err := json.Unmarshal(m.Data, &answer); err != nil {
		return fmt.Errorf("answer of JetStream: %w", err)
	}
	if answer.Error != nil && answer.Error.ErrorCode != errAlreadyLeads {
		return answer.Error
	}
	return nil
}
