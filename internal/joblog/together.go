package joblog

import (
	"context"
	"strconv"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"
)

// Headers of an atomic batch (NATS ADR-50).
const (
	batchIDHeader       = "Nats-Batch-Id"
	batchSequenceHeader = "Nats-Batch-Sequence"
	batchCommitHeader   = "Nats-Batch-Commit"
)

// publishTogether stores messages as one atomic batch: all of them, with consecutive sequences, or none. Each may have
// conditions in its header. The result is the ack of the last message. Otherwise publishTogether is like
// [publisher.publish]. An error of the server, a [*jetstream.APIError], means that nothing was stored. After any other
// error all or none of the messages may be stored.
func (p *publisher) publishTogether(ctx context.Context, msgs ...*nats.Msg) (ack, error) {
	last := msgs[len(msgs)-1]
	last.Header[batchCommitHeader] = []string{"1"}
	return p.retry(ctx, msgs[0], func() write {
		id := nuid.Next() // of this try: the server forgets the id of an incomplete batch
		for i, m := range msgs {
			m.Header[batchIDHeader] = []string{id}
			m.Header[batchSequenceHeader] = []string{strconv.Itoa(i + 1)}
			if m == last {
				break
			}
			// The server acks the whole batch, once. If this message is lost, that ack is errCodeIncompleteBatch.
			if err := p.nc.PublishMsg(m); err != nil {
				return write{pendingWrite: p.idle.Get().(*pendingWrite), err: err}
			}
		}
		w := p.send(last)
		w.batch = len(msgs)
		return w
	})
}
