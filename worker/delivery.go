package worker

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"github.com/hark-jobs/hark/jobs"
	"github.com/nats-io/nats.go"
)

// delivery is one job message that the server gave to this worker, to be acked within the lease.
//
// Acks are plain core messages: they neither block nor tell whether they arrived. Nothing depends on it,
// since a job that was not acked comes again and is found in its terminal state.
type delivery struct {
	msg   *nats.Msg
	order jobs.Order
	seq   uint64 // of the job message
	first bool   // it was never delivered before
}

func newDelivery(msg *nats.Msg) (*delivery, error) {
	meta, err := msg.Metadata()
	if err != nil {
		return nil, fmt.Errorf("worker: delivery: %w", err)
	}
	d := &delivery{msg: msg, seq: meta.Sequence.Stream, first: meta.NumDelivered == 1}
	dec := json.NewDecoder(bytes.NewReader(msg.Data))
	dec.UseNumber() // a claim may be a number that a float cannot hold
	if err := dec.Decode(&d.order); err != nil {
		return nil, fmt.Errorf("worker: delivery: %w", err)
	}
	if !jobs.ValidID(d.order.ID) || jobs.CheckUser(d.order.User) != nil || d.order.Run < 1 {
		return nil, fmt.Errorf("worker: delivery on %s is no job", msg.Subject)
	}
	return d, nil
}

func (d *delivery) ack() error   { return d.msg.Respond([]byte("+ACK")) }
func (d *delivery) renew() error { return d.msg.Respond([]byte("+WPI")) }

// nak hands the job back, to be delivered again after delay.
func (d *delivery) nak(delay time.Duration) error { return respondNak(d.msg, delay) }

func respondNak(m *nats.Msg, delay time.Duration) error {
	if delay <= 0 {
		return m.Respond([]byte("-NAK"))
	}
	return m.Respond(fmt.Appendf(nil, `-NAK {"delay": %d}`, delay.Nanoseconds()))
}
