package jobs

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
)

// Snapshot is a job as the stream holds it: the order, the state, and what follows from the two.
type Snapshot struct {
	Job
	Order    *Order // nil when the stream has forgotten it
	OrderSeq uint64
	StateSeq uint64 // what [Queue.Put] expects; 0 when there is no state yet

	orderSize, stateSize int // without params, as [Snapshot.addShown] has counted them
}

// Read returns a job's snapshot, or [ErrNotFound].
func (q *Queue) Read(ctx context.Context, user, id string) (*Snapshot, error) {
	if CheckUser(user) != nil || !ValidID(id) {
		return nil, ErrNotFound
	}
	var s Snapshot
	_, err := q.direct(ctx, directRequest{MultiLast: []string{orderSubject(user, "*", id), stateSubject(user, id)}}, s.add)
	if err != nil {
		return nil, fmt.Errorf("jobs: read: %w", err)
	}
	if !s.fold() {
		return nil, ErrNotFound
	}
	return &s, nil
}

// add takes in a message of the job.
func (s *Snapshot) add(m *storedMsg) error {
	switch _, topic, _ := ParseSubject(m.Subject); topic {
	case TopicJob:
		s.Order, s.OrderSeq = new(Order), m.Seq
		dec := json.NewDecoder(bytes.NewReader(m.Data))
		dec.UseNumber() // a claim may be a number that a float cannot hold
		return dec.Decode(s.Order)
	case TopicState:
		s.StateSeq = m.Seq
		return json.Unmarshal(m.Data, &s.Job)
	}
	return nil
}

// look returns a job's snapshot as it is shown, without the params, or [ErrNotFound]. It is a bulk read.
func (q *Queue) look(ctx context.Context, user, id string) (*Snapshot, error) {
	if CheckUser(user) != nil || !ValidID(id) {
		return nil, ErrNotFound
	}
	var s Snapshot
	err := q.lastOf(ctx, []string{orderSubject(user, "*", id), stateSubject(user, id)}, s.addShown)
	if err != nil {
		return nil, fmt.Errorf("jobs: read: %w", err)
	}
	if !s.fold() {
		return nil, ErrNotFound
	}
	return &s, nil
}

// addShown takes in a message of the job without the params.
func (s *Snapshot) addShown(m *storedMsg) error {
	if _, topic, _ := ParseSubject(m.Subject); topic != TopicJob {
		s.stateSize = len(m.Data)
		return s.add(m)
	}
	shown := *m
	if len(m.Data) > 1<<10 { // of small ones it takes longer to step over the params than to decode them
		shown.Data = withoutParams(m.Data)
	}
	s.orderSize = len(shown.Data)
	err := s.add(&shown)
	s.Order.Params = nil
	return err
}

// fold says what order and state mean together, and reports whether there is a job at all.
func (s *Snapshot) fold() bool {
	switch {
	case s.Order == nil && s.StateSeq == 0:
		return false
	case s.Order != nil && s.Job.Run < s.Order.Run: // no state yet, or one of an earlier run
		s.Job = s.Order.Job()
	}
	s.Job.Revision = max(s.OrderSeq, s.StateSeq)
	return true
}
