package jobs

import (
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
// [jetstream.JetStream.PublishMsg] does, and costs half as much: a request there makes a channel, a context with a
// timer, and a random name, and reads its answer with reflection. Every write of every job comes through here.
type publisher struct {
	nc     *nats.Conn
	sub    *nats.Subscription
	prefix string // of the subjects on which the answers come; the number of the write follows
	idle   sync.Pool

	mu      sync.Mutex
	number  uint64 // of the last write
	waiting map[uint64]*waiter
}

// waiter is a write that waits for its answer.
type waiter struct {
	answer chan answer // has room for the one answer
	timer  *time.Timer
}

// ack says where the server has stored a message.
type ack struct {
	seq       uint64
	duplicate bool // there, earlier, under the same message id
}

type answer struct {
	ack
	err error
}

// How often a write is tried again that found no stream, which may be between two leaders or servers.
const (
	publishRetries = 2
	publishPause   = 250 * time.Millisecond
)

// newPublisher subscribes to the answers, until close.
func newPublisher(nc *nats.Conn) (*publisher, error) {
	p := &publisher{nc: nc, prefix: nc.NewInbox() + ".", waiting: make(map[uint64]*waiter)}
	p.idle.New = func() any {
		timer := time.NewTimer(callTimeout)
		timer.Stop()
		return &waiter{make(chan answer, 1), timer}
	}
	sub, err := nc.Subscribe(p.prefix+"*", p.answered)
	if err != nil {
		return nil, err
	}
	p.sub = sub
	if err := sub.SetPendingLimits(-1, -1); err != nil { // there is at most one for each writer that waits
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

// publish stores m, whose Reply it sets. It blocks until the server has answered, ctx ends, or, if ctx has no deadline,
// for callTimeout.
func (p *publisher) publish(ctx context.Context, m *nats.Msg) (ack, error) {
	for try := 0; ; try++ {
		if ctx.Err() != nil {
			return ack{}, ctx.Err()
		}
		a, err := p.await(ctx, p.send(m))
		if !Passes(err) || try == publishRetries {
			return a, err
		}
		select {
		case <-ctx.Done():
			return a, ctx.Err()
		case <-time.After(publishPause):
		}
	}
}

// errCodeInProcess is the server's JSStreamDuplicateMessageConflict, of a cluster: a message with the same id is on its
// way to the other servers, and it is not known yet whether it will be stored.
const errCodeInProcess = 10158

// Passes reports whether a write failed in a way that passes soon, and was not stored.
//
// JSErrCodeStreamWrongLastSequenceConstant comes from a cluster alone. It does not say that the expected sequence was not
// the last: the write before is answered, and still being applied, and until then nothing that expects something of its
// subject is taken in.
func Passes(err error) bool {
	var api *jetstream.APIError
	return errors.Is(err, jetstream.ErrNoStreamResponse) || errors.As(err, &api) &&
		(api.ErrorCode == errCodeInProcess || api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant)
}

// publishWindow is how many messages of one [publisher.publishAll] are on their way at a time.
const publishWindow = 128

// publishAll stores messages as publish does, many at a time, and returns the answer to each. They are stored in their
// order, but for those that have to be tried again. It sends no more of them once ctx has ended, or one of those under
// way has no answer for callTimeout.
func (p *publisher) publishAll(ctx context.Context, msgs []*nats.Msg) []answer {
	answers := make([]answer, len(msgs))
	var stopped error
	for from := 0; from < len(msgs); from += publishWindow {
		to := min(from+publishWindow, len(msgs))
		if stopped == nil {
			stopped = ctx.Err()
		}
		if stopped == nil {
			stopped = p.publishSome(ctx, msgs[from:to], answers[from:to])
			continue
		}
		for i := range answers[from:to] {
			answers[from+i].err = stopped
		}
	}
	return answers
}

// publishSome does so for what may be on its way at a time, and returns why no more is to be sent.
func (p *publisher) publishSome(ctx context.Context, msgs []*nats.Msg, answers []answer) (stop error) {
	short, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	sent := make([]write, len(msgs))
	for i, m := range msgs {
		sent[i] = p.send(m)
	}
	for i, m := range msgs {
		a := &answers[i]
		if a.ack, a.err = p.await(short, sent[i]); Passes(a.err) && stop == nil {
			a.ack, a.err = p.publish(ctx, m)
		}
		if api := (*jetstream.APIError)(nil); a.err != nil && !errors.As(a.err, &api) {
			stop = a.err
		}
	}
	return stop
}

// write is a message on its way to the server.
type write struct {
	number uint64
	*waiter
	err error // it is not on its way
}

// send does not wait for the answer: await must be called for each write.
func (p *publisher) send(m *nats.Msg) write {
	w := write{waiter: p.idle.Get().(*waiter)}
	w.number = p.register(w.waiter)
	m.Reply = p.prefix + strconv.FormatUint(w.number, 36)
	if w.err = p.nc.PublishMsg(m); w.err != nil {
		p.forget(w)
	}
	return w
}

func (p *publisher) await(ctx context.Context, w write) (ack, error) {
	defer p.idle.Put(w.waiter)
	if w.err != nil {
		return ack{}, w.err
	}
	if _, ok := ctx.Deadline(); !ok {
		w.timer.Reset(callTimeout)
		defer w.timer.Stop()
	}
	select {
	case a := <-w.answer:
		return a.ack, a.err
	case <-ctx.Done():
		p.forget(w)
		return ack{}, ctx.Err()
	case <-w.timer.C:
		p.forget(w)
		return ack{}, context.DeadlineExceeded
	}
}

func (p *publisher) register(w *waiter) (number uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.number++
	p.waiting[p.number] = w
	return p.number
}

// take returns the waiter of a write, for whom nobody else can take it then; nil if nobody waits.
func (p *publisher) take(number uint64) *waiter {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.waiting[number]
	delete(p.waiting, number)
	return w
}

// forget leaves the waiter with no answer in it and none to come.
func (p *publisher) forget(w write) {
	if p.take(w.number) == nil {
		<-w.answer // was taken by answered just now
	}
}

// answered hands an answer to the writer that waits for it.
func (p *publisher) answered(m *nats.Msg) {
	number, err := strconv.ParseUint(strings.TrimPrefix(m.Subject, p.prefix), 36, 64)
	if err != nil {
		return
	}
	if w := p.take(number); w != nil {
		w.answer <- readAnswer(m)
	}
}

// expectLast is the header of a message that is stored only if the last one on its subject has this sequence; 0 means
// that there must be none.
func expectLast(seq uint64) nats.Header {
	return nats.Header{jetstream.ExpectedLastSubjSeqHeader: {strconv.FormatUint(seq, 10)}}
}

// expectLastOn is that of one stored only if the last one on another subject, which may have wildcards, has it.
func expectLastOn(subject string, seq uint64) nats.Header {
	header := expectLast(seq)
	header[jetstream.ExpectedLastSubjSeqSubjHeader] = []string{subject}
	return header
}

// replaceLast is that of one that takes the place of the last one on its subject, which must have this sequence.
func replaceLast(seq uint64) nats.Header {
	header := expectLast(seq)
	header[jetstream.MsgRollup] = []string{jetstream.MsgRollupSubject}
	return header
}

const plainAck = `{"stream":"` + StreamName + `","seq":`

// readAnswer reads what the server says to a write. Nearly always that is plainAck, a number and a brace.
func readAnswer(m *nats.Msg) answer {
	if len(m.Data) == 0 && m.Header.Get("Status") == "503" {
		return answer{err: jetstream.ErrNoStreamResponse}
	}
	if n := len(m.Data); n > len(plainAck) && string(m.Data[:len(plainAck)]) == plainAck && m.Data[n-1] == '}' {
		if seq, err := strconv.ParseUint(string(m.Data[len(plainAck):n-1]), 10, 64); err == nil {
			return answer{ack: ack{seq: seq}}
		}
	}
	var said struct {
		Error *jetstream.APIError
		jetstream.PubAck
	}
	switch err := json.Unmarshal(m.Data, &said); {
	case err != nil:
		return answer{err: jetstream.ErrInvalidJSAck}
	case said.Error != nil:
		return answer{err: said.Error}
	case said.Stream == "":
		return answer{err: jetstream.ErrInvalidJSAck}
	}
	return answer{ack: ack{said.Sequence, said.Duplicate}}
}
