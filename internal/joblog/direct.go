package joblog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// directRequest asks JetStream's direct-get API for several messages at once (NATS ADR-31). nats.go has no call for
// that, and an ordered consumer would cost a hundred times as much.
type directRequest struct {
	Batch         int      `json:"batch,omitempty"`
	MaxBytes      int      `json:"max_bytes,omitempty"` // the response ends with the message that reaches it
	Seq           uint64   `json:"seq,omitempty"`
	NextBySubject string   `json:"next_by_subj,omitempty"`
	MultiLast     []string `json:"multi_last,omitempty"`
}

// maxSubjects is the server's limit of messages for one MultiLast.
const maxSubjects = 1024

// most returns the greatest number of messages in the response, without the final status message.
func (r *directRequest) most() int {
	if len(r.MultiLast) == 0 {
		return max(r.Batch, 1)
	}
	for _, subject := range r.MultiLast {
		if strings.ContainsAny(subject, "*>") {
			return maxSubjects
		}
	}
	return len(r.MultiLast)
}

// storedMsg is a message as the stream holds it.
type storedMsg struct {
	Subject string
	Seq     uint64
	Header  nats.Header
	Data    []byte
	stored  time.Time // set by a read from the leader alone, see storedAt

	unusable error // the decode error, if decoding was tried and failed
}

// storedAt returns when the stream stored the message, or the zero time if that is unknown.
func (m *storedMsg) storedAt() time.Time {
	if !m.stored.IsZero() {
		return m.stored
	}
	at, _ := time.Parse(time.RFC3339Nano, lastValue(m.Header, jetstream.TimeStampHeaer))
	return at
}

// errTooMany is the server's error for a multi_last of more than 1,024 subjects.
var errTooMany = errors.New("joblog: too many subjects for one read")

// errGap is returned when a part of the response was lost.
var errGap = errors.New("joblog: a part of the response was lost")

// errStop is returned by a callback to end a read without an error.
var errStop = errors.New("stop")

// These limits bound the bytes that are on their way to this process: the server cuts off a connection as a slow consumer
// when 64 MB are pending for it.
const (
	// smallReads is the number of concurrent reads on the store's connection. Further reads wait. One read returns a
	// message or two: a spec, with params, and a state.
	smallReads = 32
	// bulkReads is the number of concurrent reads on the connection for bulk data.
	bulkReads = 8
	// bulkBytes is the limit of bytes for one bulk read. The message that reaches it is still returned.
	bulkBytes = 512 << 10
)

// direct sends one direct-get request to a stream of the log and calls each for every message of the response. It returns how
// many more messages match after the last one. It is for a few messages that cannot wait; [Store.bulkFrom] is for
// everything else.
func (q *Store) direct(ctx context.Context, stream string, req directRequest, each func(*storedMsg) error) (pending uint64, err error) {
	ctx, cancel := withTimeout(ctx)
	defer cancel()
	if err := enter(ctx, q.places[0]); err != nil {
		return 0, err
	}
	defer leave(q.places[0])
	return q.directAgain(ctx, q.nc, stream, req, each)
}

// bulkFrom is [Store.direct] on the connection for bulk data, for any stream.
func (q *Store) bulkFrom(ctx context.Context, stream string, req directRequest, each func(*storedMsg) error) (pending uint64, err error) {
	if err := enter(ctx, q.places[1]); err != nil {
		return 0, err
	}
	defer leave(q.places[1])
	ctx, cancel := withTimeout(ctx)
	defer cancel()
	if req.MaxBytes == 0 {
		req.MaxBytes = bulkBytes
	}
	return q.directAgain(ctx, q.bulk, stream, req, each)
}

// lastOf calls each for the last message on each of up to 1,024 subjects of a stream. It is a bulk read. When a message is stored
// during the read, each may be called for it after the message that it replaces.
func (q *Store) lastOf(ctx context.Context, stream *keptStream, subjects []string, each func(*storedMsg) error) error {
	for from := uint64(0); ; {
		pending, err := q.bulkFrom(ctx, stream.name, directRequest{MultiLast: subjects, Seq: from}, func(m *storedMsg) error {
			from = m.Seq + 1
			return each(m)
		})
		if err != nil || pending == 0 {
			return err
		}
	}
}

func enter(ctx context.Context, places chan struct{}) error {
	select {
	case places <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func leave(places chan struct{}) { <-places }

// directAgain is directOn, and once more if the stream was gone and was created.
func (q *Store) directAgain(ctx context.Context, nc *nats.Conn, stream string, req directRequest, each func(*storedMsg) error) (pending uint64, err error) {
	pending, err = q.directAnswered(ctx, nc, stream, req, each)
	if !errors.Is(err, nats.ErrNoResponders) {
		return pending, err
	}
	if err := q.restoreStream(ctx, stream); err != nil {
		return 0, err
	}
	return q.directAnswered(ctx, nc, stream, req, each)
}

// errUnanswered is the error of a request whose response has not begun.
var errUnanswered = errors.New("joblog: no answer")

// firstDirectTry is the timeout of the first try of a direct get. It is short: a NATS server sends each direct get to a replica
// that it chooses at random, and while one of three stands still, or cannot be reached, a third of them is lost.
// It is longer than a round trip between continents, so that no read from afar is made twice.
const firstDirectTry = 250 * time.Millisecond

// directAnswered is directOn, and again while nothing is answered. After three tries without a connection the error is
// [nats.ErrDisconnected].
func (q *Store) directAnswered(ctx context.Context, nc *nats.Conn, stream string, req directRequest, each func(*storedMsg) error) (pending uint64, err error) {
	for try, limit := 1, firstDirectTry; ; try, limit = try+1, min(4*limit, nextTry) {
		pending, err = q.directOn(ctx, nc, stream, req, limit, each)
		switch {
		case !errors.Is(err, errUnanswered):
			return pending, err
		case try > 2 && !nc.IsConnected():
			return 0, nats.ErrDisconnected
		}
	}
}

// directOn sends a direct-get request on a connection, and reads the response until ctx ends. It returns errUnanswered if the
// response does not begin within limit.
func (q *Store) directOn(ctx context.Context, nc *nats.Conn, stream string, req directRequest, limit time.Duration, each func(*storedMsg) error) (pending uint64, err error) {
	body, err := json.Marshal(req)
	if err != nil {
		return 0, err
	}
	inbox := nc.NewInbox()
	// SubscribeSync would treat a stored message with the header Status: 503 as an error of the server.
	answers := make(chan *nats.Msg, req.most()+1)
	sub, err := nc.ChanSubscribe(inbox, answers)
	if err != nil {
		return 0, err
	}
	defer sub.Unsubscribe()
	if err := nc.PublishRequest(q.api+"DIRECT.GET."+stream, inbox, body); err != nil {
		return 0, err
	}
	begins := time.NewTimer(limit)
	defer begins.Stop()
	for last := uint64(0); ; {
		var m *nats.Msg
		select {
		case m = <-answers:
			begins.Stop()
		case <-begins.C:
			return 0, errUnanswered
		case <-ctx.Done():
			return 0, ctx.Err()
		}
		// Each message of a response carries the sequence of the previous one. A connection that reconnects to another
		// server of the cluster may receive the end of a response without its middle.
		if before := lastValue(m.Header, jetstream.LastSequenceHeader); before != "" && before != strconv.FormatUint(last, 10) {
			return 0, errGap
		}
		// Only a status message of the server has no sequence. A stored message may have any other header, Status too.
		if lastValue(m.Header, jetstream.SequenceHeader) == "" {
			switch status := m.Header.Get("Status"); status {
			case "204":
				return strconv.ParseUint(m.Header.Get("Nats-Num-Pending"), 10, 64)
			case "404":
				return 0, nil
			case "413":
				return 0, errTooMany
			case "503":
				return 0, nats.ErrNoResponders
			default:
				return 0, fmt.Errorf("direct get: %s %s", status, m.Header.Get("Description"))
			}
		}
		seq, err := strconv.ParseUint(lastValue(m.Header, jetstream.SequenceHeader), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("direct get: %w", err)
		}
		last = seq
		if err := each(&storedMsg{Subject: lastValue(m.Header, jetstream.SubjectHeader), Seq: seq, Header: m.Header, Data: m.Data}); err != nil {
			return 0, err
		}
	}
}

// lastValue returns the last value of a header, or "". The server appends its own value after those that the publisher
// may have set.
func lastValue(h nats.Header, name string) string {
	values := h[name]
	if len(values) == 0 {
		return ""
	}
	return values[len(values)-1]
}

// scan calls each for the messages of a stream of the log that match subject, from sequence from on, in order. It ends when each returns
// errStop or there are no more messages. It is a bulk read. The leader confirms the end: a replica may not have the last
// messages yet.
func (q *Store) scan(ctx context.Context, stream *keptStream, subject string, from uint64, each func(*storedMsg) error) error {
	for {
		pending, err := q.bulkFrom(ctx, stream.name, directRequest{Batch: scanBatch, Seq: max(from, 1), NextBySubject: subject},
			func(m *storedMsg) error {
				from = m.Seq + 1
				return each(m)
			})
		if err == nil && pending == 0 {
			if q.alone() {
				return nil
			}
			m, leaderErr := q.nextOnLeader(ctx, stream.name, subject, from)
			if leaderErr != nil || m == nil {
				return leaderErr
			}
			from = m.Seq + 1
			err = each(m)
		}
		if errors.Is(err, errStop) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// scanBatch is the number of messages of one request, which bounds memory when a long log is read slowly.
const scanBatch = 256
