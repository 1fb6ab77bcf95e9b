package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// directRequest asks JetStream's direct-get API for several messages at once (NATS ADR-31). nats.go has
// no call for that, and an ordered consumer would cost a hundred times as much.
type directRequest struct {
	Batch         int      `json:"batch,omitempty"`
	MaxBytes      int      `json:"max_bytes,omitempty"` // the answer ends with the message that reaches it
	Seq           uint64   `json:"seq,omitempty"`
	NextBySubject string   `json:"next_by_subj,omitempty"`
	MultiLast     []string `json:"multi_last,omitempty"`
}

// storedMsg is a message as the stream holds it.
type storedMsg struct {
	Subject string
	Seq     uint64
	Header  nats.Header
	Data    []byte
}

// errTooMany is what the server says to a multi_last of more than 1,024 subjects.
var errTooMany = errors.New("jobs: too many subjects for one read")

// errGap is returned for an answer of which a part was lost on its way.
var errGap = errors.New("jobs: a part of the answer was lost")

// errStop, returned by a callback, ends a read without an error.
var errStop = errors.New("stop")

// What is on its way to this process and not decoded yet is bounded, whatever the users ask for: the server takes a
// connection for too slow, and cuts it off, when there are 64 MB for it.
const (
	// smallReads is how many reads of a queue are under way at a time on its connection. The others wait for their turn.
	// One brings a message or two: an order, with params, and a state.
	smallReads = 32
	// bulkReads is the same on the connection for what is large.
	bulkReads = 8
	// bulkBytes is what a bulk read brings at most, and one message more.
	bulkBytes = 512 << 10
)

// direct sends one direct-get request to hark's stream and calls each for every message of the answer. It
// returns how many more messages match behind the last one. It is for a few messages that cannot wait; all else is
// for [Queue.bulkFrom].
func (q *Queue) direct(ctx context.Context, req directRequest, each func(*storedMsg) error) (pending uint64, err error) {
	ctx, cancel := withTimeout(ctx)
	defer cancel()
	if err := enter(ctx, q.places[0]); err != nil {
		return 0, err
	}
	defer leave(q.places[0])
	return directOn(ctx, q.nc, StreamName, req, each)
}

// bulkFrom reads as direct does, on the connection for what is large.
func (q *Queue) bulkFrom(ctx context.Context, stream string, req directRequest, each func(*storedMsg) error) (pending uint64, err error) {
	if err := enter(ctx, q.places[1]); err != nil {
		return 0, err
	}
	defer leave(q.places[1])
	ctx, cancel := withTimeout(ctx)
	defer cancel()
	if req.MaxBytes == 0 {
		req.MaxBytes = bulkBytes
	}
	return directOn(ctx, q.bulk, stream, req, each)
}

// lastOf calls each for the last message on each of up to 1,024 subjects. It is a bulk read. A message that is stored
// meanwhile may come after the one that it replaces.
func (q *Queue) lastOf(ctx context.Context, subjects []string, each func(*storedMsg) error) error {
	for from := uint64(0); ; {
		pending, err := q.bulkFrom(ctx, StreamName, directRequest{MultiLast: subjects, Seq: from}, func(m *storedMsg) error {
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

// directOn does so on a connection, until ctx ends.
func directOn(ctx context.Context, nc *nats.Conn, stream string, req directRequest, each func(*storedMsg) error) (pending uint64, err error) {
	body, err := json.Marshal(req)
	if err != nil {
		return 0, err
	}
	inbox := nc.NewInbox()
	sub, err := nc.SubscribeSync(inbox)
	if err != nil {
		return 0, err
	}
	defer sub.Unsubscribe()
	if err := nc.PublishRequest("$JS.API.DIRECT.GET."+stream, inbox, body); err != nil {
		return 0, err
	}
	for last := uint64(0); ; {
		m, err := sub.NextMsgWithContext(ctx)
		if err != nil {
			return 0, err
		}
		// Each message of an answer names the one before it. A connection that is lost and comes back at
		// once, on another server of a cluster, may hear the end of an answer without its middle.
		if before := m.Header["Nats-Last-Sequence"]; len(before) > 0 && before[len(before)-1] != strconv.FormatUint(last, 10) {
			return 0, errGap
		}
		switch status := m.Header.Get("Status"); {
		case len(m.Data) == 0 && status == "204":
			return strconv.ParseUint(m.Header.Get("Nats-Num-Pending"), 10, 64)
		case len(m.Data) == 0 && status == "404":
			return 0, nil
		case len(m.Data) == 0 && status == "413":
			return 0, errTooMany
		case len(m.Data) == 0 && status == "503":
			return 0, nats.ErrNoResponders
		case len(m.Data) == 0 && status != "":
			return 0, fmt.Errorf("direct get: %s %s", status, m.Header.Get("Description"))
		}
		seq, err := strconv.ParseUint(m.Header.Get(jetstream.SequenceHeader), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("direct get: %w", err)
		}
		last = seq
		if err := each(&storedMsg{m.Header.Get(jetstream.SubjectHeader), seq, m.Header, m.Data}); err != nil {
			return 0, err
		}
	}
}

// scan calls each for the stored messages that match subject, from sequence from on, in order, until it
// returns errStop or there are no more. It is a bulk read.
func (q *Queue) scan(ctx context.Context, subject string, from uint64, each func(*storedMsg) error) error {
	for {
		pending, err := q.bulkFrom(ctx, StreamName, directRequest{Batch: scanBatch, Seq: max(from, 1), NextBySubject: subject},
			func(m *storedMsg) error {
				from = m.Seq + 1
				return each(m)
			})
		if errors.Is(err, errStop) {
			return nil
		}
		if err != nil || pending == 0 {
			return err
		}
	}
}

// scanBatch bounds what one read asks for, so that a slow reader of a long log holds little in memory.
const scanBatch = 256
