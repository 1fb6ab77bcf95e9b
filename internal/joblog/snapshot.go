package joblog

import (
	"context"
	"fmt"
	"time"

	"github.com/hark-jobs/hark/jobs"
)

// Snapshot is a job as the stream holds it: the spec, the state, and the job that both merge to. A malformed message
// hides nothing: the last well-formed message before it on its subject counts.
type Snapshot struct {
	jobs.Job
	Spec     *Spec  // nil if the stream does not have it any more
	SpecSeq  uint64 // sequence of the last message on the spec's subject
	StateSeq uint64 // sequence of the last message on the state's subject, as [Store.PutState] expects it; 0 if there is none

	specSize, stateSize int       // in bytes, without params; set by addShown
	storedAt            time.Time // when the spec was stored; set by a list

	unread []*storedMsg // malformed messages that are the last on their subjects
}

// Read returns a job's snapshot, or [jobs.ErrNotFound]. On a cluster it may be some milliseconds old, see
// [Store.ReadLeader]; ErrNotFound is confirmed by the leader.
func (q *Store) Read(ctx context.Context, user, id string) (*Snapshot, error) {
	if jobs.CheckUser(user) != nil || !jobs.ValidID(id) {
		return nil, jobs.ErrNotFound
	}
	var s Snapshot
	_, err := q.direct(ctx, q.streamFor(user).name, directRequest{MultiLast: []string{q.ns.SpecSubject(user, "*", id), q.ns.StateSubject(user, id)}}, s.add)
	if err == nil && s.empty() {
		return q.ReadLeader(ctx, user, "*", id)
	}
	return q.merged(ctx, &s, err)
}

// merged completes a snapshot after a read that ended with err: it replaces malformed messages, and merges.
func (q *Store) merged(ctx context.Context, s *Snapshot, err error) (*Snapshot, error) {
	if err == nil {
		err = q.readOlder(ctx, s)
	}
	if err != nil {
		return nil, fmt.Errorf("joblog: read: %w", err)
	}
	if !s.merge() {
		return nil, jobs.ErrNotFound
	}
	return s, nil
}

// empty reports whether no message of the job was read.
func (s *Snapshot) empty() bool { return s.SpecSeq == 0 && s.StateSeq == 0 && len(s.unread) == 0 }

// add adds the last message on a subject of the job. Its error is always nil.
func (s *Snapshot) add(m *storedMsg) error {
	err := s.decode(m)
	if err != nil {
		s.unread = append(s.unread, &storedMsg{Subject: m.Subject, Seq: m.Seq, unusable: err})
	}
	if _, class, _ := ParseSubject(m.Subject); class == ClassState {
		s.StateSeq = m.Seq
	} else if err == nil {
		s.SpecSeq = m.Seq
	}
	return nil
}

func (s *Snapshot) decode(m *storedMsg) error {
	if _, class, _ := ParseSubject(m.Subject); class == ClassState {
		job, err := DecodeState(m.Subject, m.Data)
		if err == nil {
			s.Job = job
		}
		return err
	}
	spec, err := DecodeSpec(m.Subject, m.Data)
	if err == nil {
		s.Spec = spec
	}
	return err
}

// readOlder skips the malformed messages, and reads the last well-formed message before each of them. It is a bulk read
// for each.
func (q *Store) readOlder(ctx context.Context, s *Snapshot) error {
	for _, bad := range s.unread {
		q.skip(bad, bad.unusable)
		var older Snapshot
		err := q.scan(ctx, q.streamOfSubject(bad.Subject), bad.Subject, 1, func(m *storedMsg) error {
			if err := older.decode(m); err != nil {
				q.skip(m, err)
			} else {
				older.SpecSeq = m.Seq
			}
			return nil
		})
		if err != nil {
			return err
		}
		switch _, class, _ := ParseSubject(bad.Subject); {
		case class == ClassState:
			s.Job = older.Job
		case older.Spec != nil && older.SpecSeq > s.SpecSeq: // another kind may have a newer one
			s.Spec, s.SpecSeq = older.Spec, bad.Seq
		}
	}
	s.unread = nil
	return nil
}

// readShown returns a job's snapshot without params, or [jobs.ErrNotFound]. It is a bulk read.
func (q *Store) readShown(ctx context.Context, user, id string) (*Snapshot, error) {
	if jobs.CheckUser(user) != nil || !jobs.ValidID(id) {
		return nil, jobs.ErrNotFound
	}
	var s Snapshot
	err := q.lastOf(ctx, q.streamFor(user), []string{q.ns.SpecSubject(user, "*", id), q.ns.StateSubject(user, id)}, s.addShown)
	if err == nil && s.empty() {
		return q.ReadLeader(ctx, user, "*", id)
	}
	return q.merged(ctx, &s, err)
}

// addShown is add without the params. Its error is always nil.
func (s *Snapshot) addShown(m *storedMsg) error {
	if _, class, _ := ParseSubject(m.Subject); class != ClassJob {
		s.stateSize = len(m.Data)
		return s.add(m)
	}
	shown := *m
	if len(m.Data) > 1<<10 { // in smaller ones, skipping the params takes longer than decoding them
		shown.Data = withoutParams(m.Data)
	}
	s.specSize = len(shown.Data)
	err := s.add(&shown)
	if s.Spec != nil {
		s.Spec.Params = nil
	}
	return err
}

// merge combines the spec and the latest state into Job, and reports whether there is a job.
func (s *Snapshot) merge() bool {
	switch {
	case s.Spec == nil && s.Job.Run == 0:
		return false
	case s.Spec != nil && s.Job.Run < s.Spec.Run: // no state yet, or a state of an earlier run
		s.Job = s.Spec.Job()
	}
	s.Job.Revision = max(s.SpecSeq, s.StateSeq)
	return true
}
