package jobs

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// ReadLeader is [Queue.Read] as the leader of the stream has it. On a cluster Read may be answered by a replica that lags:
// by one that does not have yet what this process has written or was delivered. What is decided for good, such as that a
// message needs no more work, is decided on this. It costs two requests.
func (q *Queue) ReadLeader(ctx context.Context, user, id string) (*Snapshot, error) {
	if CheckUser(user) != nil || !ValidID(id) {
		return nil, ErrNotFound
	}
	var s Snapshot
	for _, subject := range []string{orderSubject(user, "*", id), stateSubject(user, id)} {
		m, err := q.lastOnLeader(ctx, subject)
		if err == nil && m != nil {
			err = s.add(m)
		}
		if err != nil {
			return nil, fmt.Errorf("jobs: read: %w", err)
		}
	}
	if !s.fold() {
		return nil, ErrNotFound
	}
	return &s, nil
}

// lastOnLeader returns the last message on a subject, which may have wildcards, nil if there is none.
func (q *Queue) lastOnLeader(ctx context.Context, subject string) (*storedMsg, error) {
	ctx, cancel := withTimeout(ctx)
	defer cancel()
	body, err := json.Marshal(map[string]string{"last_by_subj": subject})
	if err != nil {
		return nil, err
	}
	m, err := q.nc.RequestWithContext(ctx, "$JS.API.STREAM.MSG.GET."+StreamName, body)
	if err != nil {
		return nil, err
	}
	var answer struct {
		Error   *jetstream.APIError `json:"error"`
		Message *struct {
			Subject string `json:"subject"`
			Seq     uint64 `json:"seq"`
			Header  []byte `json:"hdrs"`
			Data    []byte `json:"data"`
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
	stored := &storedMsg{Subject: answer.Message.Subject, Seq: answer.Message.Seq, Data: answer.Message.Data}
	if len(answer.Message.Header) > 0 {
		if stored.Header, err = nats.DecodeHeadersMsg(answer.Message.Header); err != nil {
			return nil, err
		}
	}
	return stored, nil
}
