package worker

import (
	"fmt"
	"time"

	"github.com/hark-jobs/hark/internal/joblog"
	"github.com/nats-io/nats.go"
)

// delivery is a job message that the server delivered to this worker. It must be acked within the lease.
//
// Acks are plain core NATS messages: they do not block, and are not confirmed. That is safe: a job that was not acked is
// delivered again and found in its terminal state.
type delivery struct {
	msg   *nats.Msg
	spec  joblog.Spec
	seq   uint64 // stream sequence of the message
	first bool   // this is the first delivery
}

func newDelivery(msg *nats.Msg) (*delivery, error) {
	meta, err := msg.Metadata()
	if err != nil {
		return nil, fmt.Errorf("worker: delivery: %w", err)
	}
	spec, err := joblog.DecodeSpec(msg.Subject, msg.Data)
	if err != nil {
		return nil, fmt.Errorf("worker: delivery: %w", err)
	}
	d := &delivery{msg: msg, spec: *spec, seq: meta.Sequence.Stream, first: meta.NumDelivered == 1}
	return d, nil
}

func (d *delivery) ack() error   { return d.msg.Respond([]byte("+ACK")) }
func (d *delivery) renew() error { return d.msg.Respond([]byte("+WPI")) }

// nak has the server deliver the job again after delay.
func (d *delivery) nak(delay time.Duration) error { return respondNak(d.msg, delay) }

func respondNak(m *nats.Msg, delay time.Duration) error {
	if delay <= 0 {
		return m.Respond([]byte("-NAK"))
	}
	return m.Respond(fmt.Appendf(nil, `-NAK {"delay": %d}`, delay.Nanoseconds()))
}
