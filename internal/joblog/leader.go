package joblog

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/hark-jobs/hark/jobs"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// ReadLeader is [Store.Read] from the leader of the stream. On a cluster Read may be answered by a lagging replica,
// which does not have the latest writes of this process or the message it was delivered. Final decisions, such as that a
// message needs no more work, must use ReadLeader. It costs two requests, and on a cluster a third one for a job that is not found.
// Kind is the job's kind, or "*". If the leader is cut off from the other servers, a job that it does not have is no [jobs.ErrNotFound] but
// [ErrCutOff].
func (q *Store) ReadLeader(ctx context.Context, user, kind, id string) (*Snapshot, error) {
	if jobs.CheckUser(user) != nil || !jobs.ValidID(id) {
		return nil, jobs.ErrNotFound
	}
	var s Snapshot
	for _, subject := range []string{q.ns.SpecSubject(user, kind, id), q.ns.StateSubject(user, id)} {
		m, err := q.lastOnLeader(ctx, q.streamFor(user), subject)
		if err == nil && m != nil {
			err = s.add(m)
		}
		if err != nil {
			return nil, fmt.Errorf("joblog: read: %w", err)
		}
	}
	if kind == "*" && s.SpecSeq == 0 && len(s.unread) > 0 {
		kind, err := q.kindOf(ctx, user, id)
		if err != nil {
			return nil, fmt.Errorf("joblog: read: %w", err)
		}
		if kind != "" {
			return q.ReadLeader(ctx, user, kind, id)
		}
	}
	found, err := q.merged(ctx, &s, nil)
	if errors.Is(err, jobs.ErrNotFound) {
		if err := q.confirmAbsent(ctx, q.streamFor(user)); err != nil {
			return nil, fmt.Errorf("joblog: read: %w", err)
		}
	}
	return found, err
}

// confirmAbsent returns nil if the leader of a stream, which has just answered that there is no message, was the only one. One that is cut
// off takes itself for the leader for ten seconds, and does not have what another one has stored meanwhile.
func (q *Store) confirmAbsent(ctx context.Context, stream *keptStream) error {
	if q.alone() {
		return nil
	}
	_, err := stream.leaderInfo(ctx)
	return err
}

// kindOf returns the kind of the job's last well-formed spec, or "". Specs of other kinds may be before it, and
// malformed ones after it. It is a bulk read.
func (q *Store) kindOf(ctx context.Context, user, id string) (kind string, err error) {
	err = q.scan(ctx, q.streamFor(user), q.ns.SpecSubject(user, "*", id), 1, func(m *storedMsg) error {
		if spec, err := DecodeSpec(m.Subject, m.Data); err == nil {
			kind = spec.Kind
		}
		return nil // the read of the job counts skipped messages
	})
	return kind, err
}

// alone reports whether the stream has a single replica and the server is in no cluster, so that no replica can lag. In
// a cluster a stream may get replicas at any time, and an open store is not notified. A lost connection has no cluster
// name meanwhile.
func (q *Store) alone() bool { return q.replicas.Load() == 1 && q.nc.ConnectedClusterName() == "" }

// CanLag reports whether a replica of the log may lag behind its leader.
func (q *Store) CanLag() bool { return !q.alone() }

// lastOnLeader returns the last message on a subject of a stream, which may have wildcards, or nil.
func (q *Store) lastOnLeader(ctx context.Context, stream *keptStream, subject string) (*storedMsg, error) {
	return q.onLeader(ctx, stream.name, leaderRequest{LastBySubject: subject})
}

// storedLast returns the position of a message if it is the last one on its subject, or no position. Messages that are sent with a
// condition differ: they have a time, or the number of a run.
func (q *Store) storedLast(ctx context.Context, m *nats.Msg) (ack, error) {
	last, err := q.lastOnLeader(ctx, q.streamOfSubject(m.Subject), m.Subject)
	if err != nil || last == nil || !bytes.Equal(last.Data, m.Data) {
		return ack{}, err
	}
	return ack{seq: last.Seq}, nil
}

// nextOnLeader returns the first message on a subject, which may have wildcards, at or after a sequence, or nil.
func (q *Store) nextOnLeader(ctx context.Context, stream, subject string, seq uint64) (*storedMsg, error) {
	return q.onLeader(ctx, stream, leaderRequest{Seq: max(seq, 1), NextBySubject: subject})
}

// leaderRequest asks for one message.
type leaderRequest struct {
	Seq           uint64 `json:"seq,omitempty"`
	NextBySubject string `json:"next_by_subj,omitempty"`
	LastBySubject string `json:"last_by_subj,omitempty"`
}

// onLeader returns the message from the leader of a stream, or nil if there is none.
func (q *Store) onLeader(ctx context.Context, stream string, req leaderRequest) (*storedMsg, error) {
	m, err := q.askLeader(ctx, stream, req)
	if !isGone(err) {
		return m, err
	}
	if err := q.restoreStream(ctx, stream); err != nil {
		return nil, err
	}
	return q.askLeader(ctx, stream, req)
}

func (q *Store) askLeader(ctx context.Context, stream string, req leaderRequest) (*storedMsg, error) {
	return tries(ctx, q.nc, func(ctx context.Context) (*storedMsg, error) { return q.askLeaderOnce(ctx, stream, req) })
}

func (q *Store) askLeaderOnce(ctx context.Context, stream string, req leaderRequest) (*storedMsg, error) {
	body, err := json.Marshal(req)
	if err != nil {
		return nil, err
	}
	if err := enter(ctx, q.places[0]); err != nil {
		return nil, err
	}
	defer leave(q.places[0])
	m, err := q.nc.RequestWithContext(ctx, q.api+"STREAM.MSG.GET."+stream, body)
	if err != nil {
		return nil, err
	}
	var answer struct {
		Error   *jetstream.APIError `json:"error"`
		Message *struct {
			Subject string    `json:"subject"`
			Seq     uint64    `json:"seq"`
			Header  []byte    `json:"hdrs"`
			Data    []byte    `json:"data"`
			Time    time.Time `json:"time"`
		} `json:"message"`
	}
	if err := json.Unmarshal(m.Data, &answer); err != nil {
		return nil, fmt.Errorf("answer of JetStream: %w", err)
	}
	switch {
	case answer.Error != nil && answer.Error.ErrorCode == jetstream.JSErrCodeMessageNotFound:
		return nil, nil
	case answer.Error != nil:
		return nil, answer.Error
	case answer.Message == nil:
		return nil, jetstream.ErrInvalidJSAck
	}
	stored := &storedMsg{Subject: answer.Message.Subject, Seq: answer.Message.Seq, Data: answer.Message.Data, stored: answer.Message.Time}
	if len(answer.Message.Header) > 0 {
		if stored.Header, err = nats.DecodeHeadersMsg(answer.Message.Header); err != nil {
			return nil, err
		}
	}
	return stored, nil
}
