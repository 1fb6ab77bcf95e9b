package jobs

import (
	"context"
	"encoding/json"
	"strings"
	"sync"
)

// Backlogs counts the jobs that users have waiting. It reads what the log has of a user since it was last asked, so that
// a count costs one read, and is the same whichever process the jobs were enqueued by. What was waiting before it was
// first asked about a user does not count. It is safe for concurrent use.
type Backlogs struct {
	queue *Queue

	mu    sync.Mutex
	users map[string]*backlog
}

// maxBacklogs is how many users are remembered. When there are more, those who have nothing waiting are forgotten.
const maxBacklogs = 10_000

// NewBacklogs returns the Backlogs of the queue's users.
func NewBacklogs(q *Queue) *Backlogs { return &Backlogs{queue: q, users: make(map[string]*backlog)} }

// backlog is what one user has waiting.
type backlog struct {
	mu      sync.Mutex
	at      uint64            // sequence of the last message that was read
	waiting map[string]string // job id to kind
}

// Count returns how many jobs of the kind the user has waiting: queued, or between two attempts. It blocks for one or two
// round trips, and other counts of the same user meanwhile.
func (b *Backlogs) Count(ctx context.Context, user, kind string) (int, error) {
	u := b.of(user)
	u.mu.Lock()
	defer u.mu.Unlock()
	if err := u.catchUp(ctx, b.queue, user); err != nil {
		return 0, err
	}
	n := 0
	for _, k := range u.waiting {
		if k == kind {
			n++
		}
	}
	return n, nil
}

func (b *Backlogs) of(user string) *backlog {
	b.mu.Lock()
	defer b.mu.Unlock()
	u := b.users[user]
	if u != nil {
		return u
	}
	if len(b.users) >= maxBacklogs {
		for name, other := range b.users {
			if other.mu.TryLock() {
				if len(other.waiting) == 0 {
					delete(b.users, name)
				}
				other.mu.Unlock()
			}
		}
	}
	u = &backlog{waiting: make(map[string]string)}
	b.users[user] = u
	return u
}

// catchUp reads the log of the user's jobs on from where it was last read. The first time it begins at the end.
func (u *backlog) catchUp(ctx context.Context, q *Queue, user string) error {
	if u.at == 0 {
		_, last, err := q.Bounds(ctx)
		if err == nil {
			u.at = max(last, 1)
		}
		return err
	}
	return q.scan(ctx, storeRoot+EscapeUser(user)+".>", u.at+1, func(m *storedMsg) error {
		u.at = m.Seq
		_, topic, _ := ParseSubject(m.Subject)
		id := m.Subject[strings.LastIndexByte(m.Subject, '.')+1:]
		switch topic {
		case TopicJob: // enqueued, retried, or put back to the end of the queue
			words := strings.Split(m.Subject, ".")
			u.waiting[id] = words[len(words)-2]
		case TopicState:
			var job struct {
				Kind  string `json:"kind"`
				State State  `json:"state"`
			}
			if json.Unmarshal(m.Data, &job) != nil {
				return nil // no state that a worker has written
			}
			if job.State == Queued || job.State == Retrying {
				u.waiting[id] = job.Kind
			} else {
				delete(u.waiting, id)
			}
		}
		return nil
	})
}

// Find returns the job that the user has enqueued with the idempotency key, or [ErrNotFound].
func (q *Queue) Find(ctx context.Context, user, key string) (Job, error) {
	return q.Get(ctx, user, keyedID(user, key))
}
