package joblog

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// publisher writes messages to hark's stream and waits until the server has stored them. It does what
// [jetstream.JetStream.PublishMsg] does at half of the cost: a request there makes a channel, a context with a timer and
// a random name, and decodes the ack with reflection. Every write of every job uses it.
type publisher struct {
	nc     *nats.Conn
	sub    *nats.Subscription
	prefix string // of the reply subjects; the number of the write follows
	idle   sync.Pool
	// restore creates the stream of a subject if it does not exist. It is nil for a publisher that never does that.
	restore func(ctx context.Context, subject string) error
	// stored returns the position of a message if it is the last one on its subject. It is nil for a publisher of messages
	// that are never sent a second time.
	stored func(ctx context.Context, m *nats.Msg) (ack, error)
	// plainAck begins the ack of a message that the log has stored.
	plainAck string

	mu      sync.Mutex
	number  uint64 // number of the last write
	pending map[uint64]*pendingWrite
}

// pendingWrite is a write that waits for its ack.
type pendingWrite struct {
	answer chan writeResult // has room for one result
	timer  *time.Timer
}

// ack is the position of a stored message.
type ack struct {
	seq       uint64
	duplicate bool // it was stored earlier under the same message id
}

type writeResult struct {
	ack
	err error
}

// Retries of a write that found no stream: the stream may be between two leaders or servers.
const (
	publishRetries = 2
	publishPause   = 250 * time.Millisecond
)

// newPublisher subscribes to the acks. The caller must call close.
func newPublisher(nc *nats.Conn, ns Namespace) (*publisher, error) {
	p := &publisher{nc: nc, prefix: nc.NewInbox() + ".", plainAck: `{"stream":"` + ns.LogStream(), pending: make(map[uint64]*pendingWrite)}
	p.idle.New = func() any {
		timer := time.NewTimer(firstTry)
		timer.Stop()
		return &pendingWrite{make(chan writeResult, 1), timer}
	}
	sub, err := nc.Subscribe(p.prefix+"*", p.receive)
	if err != nil {
		return nil, err
	}
	p.sub = sub
	if err := sub.SetPendingLimits(-1, -1); err != nil { // at most one ack is pending for each writer
		return nil, errors.Join(err, p.close())
	}
	return p, nil
}

func (p *publisher) close() error {
	err := p.sub.Unsubscribe()
	if errors.Is(err, nats.ErrConnectionClosed) {
		return nil
	}
	return err
}

// publish stores m, and sets its Reply. It blocks until the server has acked or ctx ends, or for callTimeout if ctx has
// no deadline. It retries transient errors, creates a stream that was deleted or lost, and sends a message again whose ack does
// not arrive, see [publisher.await]. While the stream has no leader it retries for leaderTime, so that a short election makes a
// write slow and does not fail it.
func (p *publisher) publish(ctx context.Context, m *nats.Msg) (ack, error) {
	return p.retry(ctx, m, func() write { return p.send(m) })
}

// retry sends a write until it succeeds, or fails with an error that is not transient. The write stores m, first or alone.
func (p *publisher) retry(ctx context.Context, m *nats.Msg, send func() write) (ack, error) {
	resent, begin := false, time.Now()
	var restored chan error // of a restore that is under way
	for try := 0; ; try++ {
		if ctx.Err() != nil {
			return ack{}, ctx.Err()
		}
		w := send()
		a, err := p.await(ctx, &w)
		_, limited := ctx.Deadline()
		if errors.Is(err, errUnanswered) {
			switch {
			case !limited && time.Since(begin) > callTimeout:
				return a, context.DeadlineExceeded
			case resent && !p.nc.IsConnected():
				return a, nats.ErrDisconnected
			}
			resent = true
			continue
		}
		resent = resent || w.resent
		if resent && (isConflict(err) || isKnownBatch(err)) {
			return p.conflictOrOwn(ctx, m, w.batch, err)
		}
		if err == nil && restored != nil { // the stream may be a new one, whose epoch is learned before its ids are used
			select {
			case <-ctx.Done():
			case <-restored:
			}
		}
		if !IsTransient(err) {
			return a, err
		}
		mayRestore := p.restore != nil && errors.Is(err, jetstream.ErrNoStreamResponse)
		if try >= publishRetries && !mayRestore || time.Since(begin) > leaderTime {
			return a, err
		}
		if try >= publishRetries && restored == nil {
			restored = make(chan error, 1)
			go func(restored chan<- error) { restored <- p.restore(ctx, m.Subject) }(restored)
		}
		select {
		case <-ctx.Done():
			return a, ctx.Err()
		case restoreErr := <-restored: // it takes seconds to find out that a stream exists that has no leader
			if restored = nil; restoreErr != nil && !isUnanswered(restoreErr) {
				return a, restoreErr
			}
		case <-time.After(publishPause):
		}
	}
}

// isUnanswered reports whether nobody could answer a request: its servers may be between two leaders.
func isUnanswered(err error) bool {
	return isGone(err) || isLeaderless(err) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrDisconnected)
}

// Error codes of the server for writes that pass soon.
const (
	// errCodeInProcess is JSStreamDuplicateMessageConflict. On a cluster a message with the same id is being replicated,
	// and may or may not be stored.
	errCodeInProcess = 10158
	// errCodeIncompleteBatch is JSAtomicPublishIncompleteBatchErr: a message of the batch did not arrive, or the leader has
	// changed in between, or too many batches are open. Nothing was stored.
	errCodeIncompleteBatch = 10176
	// errCodeKnownInBatch is JSAtomicPublishContainsDuplicateMessageErr: a message of the batch has an id that is known.
	errCodeKnownInBatch = 10201
)

func isKnownBatch(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && api.ErrorCode == errCodeKnownInBatch
}

// IsTransient reports whether a write failed with an error that passes soon, and was not stored.
//
// JSErrCodeStreamWrongLastSequenceConstant occurs on clusters only. It does not mean that the expected sequence is
// wrong: the previous write on the subject is acked and still being applied, and until then the server refuses any
// expectation.
func IsTransient(err error) bool {
	var api *jetstream.APIError
	return errors.Is(err, jetstream.ErrNoStreamResponse) || errors.As(err, &api) &&
		(api.ErrorCode == errCodeInProcess || api.ErrorCode == errCodeIncompleteBatch || api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant)
}

// publishWindow is how many messages of one [publisher.publishAll] are sent before their acks are awaited.
const publishWindow = 128

// publishAll stores messages as publish does, in windows, and returns the result of each. They are stored in order,
// except for those that are retried. It stops when ctx ends, or when an ack does not arrive within callTimeout; the
// remaining messages get that error.
func (p *publisher) publishAll(ctx context.Context, msgs []*nats.Msg) []writeResult {
	answers := make([]writeResult, len(msgs))
	var stopped error
	for from := 0; from < len(msgs); from += publishWindow {
		to := min(from+publishWindow, len(msgs))
		if stopped == nil {
			stopped = ctx.Err()
		}
		if stopped == nil {
			stopped = p.publishBatch(ctx, msgs[from:to], answers[from:to])
			continue
		}
		for i := range answers[from:to] {
			answers[from+i].err = stopped
		}
	}
	return answers
}

// publishBatch publishes one window and waits for its acks. A non-nil error stops the remaining windows.
func (p *publisher) publishBatch(ctx context.Context, msgs []*nats.Msg, answers []writeResult) (stop error) {
	short, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	sent := make([]write, len(msgs))
	for i, m := range msgs {
		sent[i] = p.send(m)
	}
	for i, m := range msgs {
		a := &answers[i]
		if a.ack, a.err = p.await(short, &sent[i]); IsTransient(a.err) && stop == nil {
			a.ack, a.err = p.publish(ctx, m)
		}
		if api := (*jetstream.APIError)(nil); a.err != nil && !errors.As(a.err, &api) {
			stop = a.err
		}
	}
	return stop
}

// write is a sent message.
type write struct {
	msg    *nats.Msg
	number uint64
	*pendingWrite
	err    error // it could not be sent
	resent bool  // it was sent more than once
	batch  int   // the number of messages of a batch, or 0; only the whole batch can be sent again
}

// send publishes m without waiting for the ack. The caller must call await for each write.
func (p *publisher) send(m *nats.Msg) write {
	w := write{msg: m, pendingWrite: p.idle.Get().(*pendingWrite)}
	w.number = p.register(w.pendingWrite)
	m.Reply = p.prefix + strconv.FormatUint(w.number, 36)
	if w.err = p.nc.PublishMsg(m); w.err != nil {
		p.forget(w)
	}
	return w
}

// await waits for the ack of a write. A message or its ack is lost with a leader that dies, a route that is cut or a
// connection that is silent, and nothing says so. So a message that the server stores at most once is sent again while its
// ack does not arrive. After two tries without a connection the error is [nats.ErrDisconnected]; as after any error that is not
// the server's, the message may be stored.
func (p *publisher) await(ctx context.Context, w *write) (ack, error) {
	defer p.idle.Put(w.pendingWrite)
	if w.err != nil {
		return ack{}, w.err
	}
	_, limited := ctx.Deadline()
	w.timer.Reset(firstTry)
	defer w.timer.Stop()
	for waited := firstTry; ; waited += nextTry {
		select {
		case a := <-w.answer:
			return a.ack, a.err
		case <-ctx.Done():
			p.forget(*w)
			return ack{}, ctx.Err()
		case <-w.timer.C:
		}
		var err error
		switch {
		case !limited && waited >= callTimeout:
			err = context.DeadlineExceeded
		case waited > firstTry && !p.nc.IsConnected():
			err = nats.ErrDisconnected
		case w.batch > 0:
			err = errUnanswered
		case p.mayResend(w.msg):
			err = p.nc.PublishMsg(w.msg)
			w.resent = true
		}
		if err != nil {
			p.forget(*w)
			return ack{}, err
		}
		w.timer.Reset(nextTry)
	}
}

// mayResend reports whether the server stores a message at most once, however often it gets it.
func (p *publisher) mayResend(m *nats.Msg) bool {
	return len(m.Header[nats.MsgIdHdr]) > 0 || p.stored != nil && len(m.Header[jetstream.ExpectedLastSubjSeqHeader]) > 0
}

// conflictOrOwn returns the ack of a message that was sent more than once, if the conflict is with the message itself. Otherwise it
// returns the conflict. Of a batch m is the first message, and the ack is that of the last one.
func (p *publisher) conflictOrOwn(ctx context.Context, m *nats.Msg, batch int, conflict error) (ack, error) {
	if p.stored == nil {
		return ack{}, conflict
	}
	a, err := p.stored(ctx, m)
	switch {
	case err != nil:
		return ack{}, err
	case a.seq == 0:
		return ack{}, conflict
	}
	a.seq += uint64(max(batch-1, 0))
	return a, nil
}

func (p *publisher) register(w *pendingWrite) (number uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.number++
	p.pending[p.number] = w
	return p.number
}

// takePending removes and returns a pending write, or returns nil if nobody waits for it any more.
func (p *publisher) takePending(number uint64) *pendingWrite {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.pending[number]
	delete(p.pending, number)
	return w
}

// forget removes a pending write, and leaves its channel empty for reuse.
func (p *publisher) forget(w write) {
	if p.takePending(w.number) == nil {
		<-w.answer // receive has just taken it
	}
}

// receive hands an ack to the write that waits for it.
func (p *publisher) receive(m *nats.Msg) {
	number, err := strconv.ParseUint(strings.TrimPrefix(m.Subject, p.prefix), 36, 64)
	if err != nil {
		return
	}
	if w := p.takePending(number); w != nil {
		w.answer <- p.parseAck(m)
	}
}

// expectLast returns the header of a publish that is conditional on the last sequence of its subject; 0 means that there
// must be no message.
func expectLast(seq uint64) nats.Header {
	return nats.Header{jetstream.ExpectedLastSubjSeqHeader: {strconv.FormatUint(seq, 10)}}
}

// expectLastOn returns the header of a publish that is conditional on the last sequence of another subject, which may
// have wildcards.
func expectLastOn(subject string, seq uint64) nats.Header {
	header := expectLast(seq)
	header[jetstream.ExpectedLastSubjSeqSubjHeader] = []string{subject}
	return header
}

// replaceLast returns the header of a conditional rollup: the message replaces the last one on its subject, which must
// have this sequence.
func replaceLast(seq uint64) nats.Header {
	header := expectLast(seq)
	header[jetstream.MsgRollup] = []string{jetstream.MsgRollupSubject}
	return header
}

// parseAck decodes an ack. Nearly always it is plainAck, for a stream other than the first the shard in its name, the
// sequence, and a brace.
func (p *publisher) parseAck(m *nats.Msg) writeResult {
	if len(m.Data) == 0 && m.Header.Get("Status") == "503" {
		return writeResult{err: jetstream.ErrNoStreamResponse}
	}
	if seq, ok := p.plainSeq(m.Data); ok {
		return writeResult{ack: ack{seq: seq}}
	}
	var said struct {
		Error *jetstream.APIError
		jetstream.PubAck
	}
	switch err := json.Unmarshal(m.Data, &said); {
	case err != nil:
		return writeResult{err: jetstream.ErrInvalidJSAck}
	case said.Error != nil:
		return writeResult{err: said.Error}
	case said.Stream == "":
		return writeResult{err: jetstream.ErrInvalidJSAck}
	}
	return writeResult{ack: ack{said.Sequence, said.Duplicate}}
}

// plainSeq returns the sequence in the ack of a message that is no duplicate.
func (p *publisher) plainSeq(data []byte) (seq uint64, ok bool) {
	const before = `","seq":`
	rest, ok := bytes.CutPrefix(data, []byte(p.plainAck))
	if !ok {
		return 0, false
	}
	if len(rest) > 3 && rest[0] == '_' {
		rest = rest[3:]
	}
	if rest, ok = bytes.CutPrefix(rest, []byte(before)); !ok || len(rest) < 2 || rest[len(rest)-1] != '}' {
		return 0, false
	}
	seq, err := strconv.ParseUint(string(rest[:len(rest)-1]), 10, 64)
	return seq, err == nil
}
