package joblog

import (
	"context"
	"fmt"

	"github.com/hark-jobs/hark/jobs"
)

// specRank is the rank of a well-formed spec in [Store.Owner], the highest one.
const specRank = 3

// Owner returns the user of the job with this id, or [jobs.ErrNotFound]. The server searches the subjects of all users,
// so it is for admins, not for every call.
func (q *Store) Owner(ctx context.Context, id string) (user string, err error) {
	if !jobs.ValidID(id) {
		return "", jobs.ErrNotFound
	}
	subjects := []string{q.ns.SpecSubjects("*", id), q.ns.StateSubjects(id)}
	best := 0
	each := func(m *storedMsg) error {
		a, err := ParseAddress(m.Subject)
		if err != nil {
			q.skip(m, err)
			return nil
		}
		// A spec counts most, whatever states other users have under its id. A malformed message counts least: it may have
		// replaced a good one.
		rank := 1
		if a.Class == ClassJob {
			if _, err := DecodeSpec(m.Subject, withoutParams(m.Data)); err == nil {
				rank = specRank
			}
		} else if _, err := DecodeState(m.Subject, m.Data); err == nil {
			rank = 2
		}
		if rank > best {
			user, best = a.User, rank
		}
		return nil
	}
	streams := q.streams()
	for i := 0; err == nil && best < specRank && i < len(streams); i++ {
		_, err = q.direct(ctx, streams[i].name, directRequest{MultiLast: subjects}, each)
	}
	for i := 0; err == nil && user == "" && i < len(subjects)*len(streams); i++ { // the replica may lag
		var m *storedMsg
		if m, err = q.lastOnLeader(ctx, streams[i/len(subjects)], subjects[i%len(subjects)]); m != nil {
			err = each(m)
		}
	}
	for i := 0; err == nil && user == "" && i < len(streams); i++ {
		err = q.confirmAbsent(ctx, streams[i])
	}
	if err != nil {
		return "", fmt.Errorf("joblog: owner: %w", err)
	}
	if user == "" {
		return "", jobs.ErrNotFound
	}
	return user, nil
}
