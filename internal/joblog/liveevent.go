package joblog

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/hark-jobs/hark/jobs"
)

// PublishEvent publishes a live event to the streams that listen to its topic. It blocks until the NATS server has it, for one
// round trip. The events of one topic arrive in the order in which this connection has published them.
//
// Errors: a [*jobs.InvalidError], or that of the connection; then the event may have been published.
func (q *Store) PublishEvent(ctx context.Context, e jobs.LiveEvent) error {
	if err := e.Check(); err != nil {
		return err
	}
	data, err := json.Marshal(liveEvent{e.Type, e.Data})
	if err != nil {
		return fmt.Errorf("joblog: publish event: %w", err)
	}
	ctx, cancel := withTimeout(ctx)
	defer cancel()
	if err := q.nc.Publish(q.ns.TopicSubject(e.Topic), data); err != nil {
		return fmt.Errorf("joblog: publish event: %w", err)
	}
	if err := q.nc.FlushWithContext(ctx); err != nil {
		return fmt.Errorf("joblog: publish event: %w", err)
	}
	return nil
}

// liveEvent is a live event as a message. The subject has its topic.
type liveEvent struct {
	Type string          `json:"type"`
	Data json.RawMessage `json:"data,omitempty"`
}

// DecodeEvent decodes a live event of a topic. It returns an error if the message is not one: any program with access to NATS
// can publish on a topic.
func DecodeEvent(topic string, data []byte) (jobs.LiveEvent, error) {
	var m liveEvent
	if len(data) > jobs.MaxLiveEventBytes {
		return jobs.LiveEvent{}, fmt.Errorf("joblog: a live event of more than %d KiB", jobs.MaxLiveEventBytes>>10)
	}
	if err := json.Unmarshal(data, &m); err != nil {
		return jobs.LiveEvent{}, fmt.Errorf("joblog: a live event: %w", err)
	}
	e := jobs.LiveEvent{Topic: topic, Type: m.Type, Data: m.Data}
	return e, e.Check()
}
