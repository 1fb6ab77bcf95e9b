package joblog

import (
	"context"
	"strconv"
	"sync"

	"github.com/hark-jobs/hark/jobs"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// WentBack is for tests.
var WentBack = wentBack

// Limit changes how much is remembered, for tests.
func (b *Backlogs) Limit(users, jobs int) { b.most = limits{users, jobs} }

// Remembered returns how much is, for tests.
func (b *Backlogs) Remembered() (users, jobs int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for e := b.recent.Front(); e != nil; e = e.Next() {
		jobs += len(e.Value.(*backlog).waiting)
	}
	if len(b.users) != b.recent.Len() || jobs != b.jobs {
		panic("joblog: the account of what is remembered is wrong")
	}
	return len(b.users), jobs
}

// Last is the last message on a subject, as the leader has it.
type Last struct {
	Subject string
	Seq     uint64 // 0 if there is none
	Header  nats.Header
}

// LastOnLeader returns the last message on a subject, for tests.
func (q *Store) LastOnLeader(ctx context.Context, subject string) (Last, error) {
	m, err := q.lastOnLeader(ctx, q.streamOfSubject(subject), subject)
	if m == nil || err != nil {
		return Last{}, err
	}
	return Last{m.Subject, m.Seq, m.Header}, nil
}

// CreateTogether makes stores choose one epoch for the next log that they create in place of a lost one, and wait for each
// other just before they create it.
func CreateTogether(epoch jobs.Epoch, stores ...*Store) {
	var all sync.WaitGroup
	all.Add(len(stores))
	for _, q := range stores {
		first := q.streams()[0]
		change := first.change
		first.change = func(c *jetstream.StreamConfig) {
			change(c)
			c.Metadata[epochKey] = strconv.FormatInt(int64(epoch), 10)
			all.Done()
			all.Wait()
		}
	}
}
