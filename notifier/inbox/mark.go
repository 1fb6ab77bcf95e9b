package inbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/hark-jobs/hark/jobs"
)

// Change is what a user did with their inbox and how it stands now: the data of the stream's event
// "inbox". Ids are written as [jobs.EventID.String] does.
type Change struct {
	Unread int `json:"unread"` // at most [CountLimit]
	// Read and Deleted name what was changed; Read is empty if it was read before.
	Read []string `json:"read,omitempty"`
	// ReadUpTo says that all up to there is read.
	ReadUpTo string   `json:"read_up_to,omitempty"`
	Deleted  []string `json:"deleted,omitempty"`
	// UpTo is how far Unread counts: a notification behind it is not in the number yet. It never goes back.
	UpTo string `json:"up_to,omitempty"`
}

// MarkRead marks one notification read. One that was read before keeps the time of the first reading.
// It returns [ErrNotFound] if it is not in user's inbox.
func (s *Store) MarkRead(ctx context.Context, user string, id jobs.EventID) (Change, error) {
	return s.change(ctx, "mark read", user, func(tx *sql.Tx, c *Change) error {
		marked, err := markRead(ctx, tx, user, id)
		if marked {
			c.Read = []string{id.String()}
		}
		return err
	})
}

// What touches a user's own notification says whether it is read, since each kind is in an index of its own, see
// [listSQL]. A broadcast's row never is.
const (
	markOwnSQL = `UPDATE hark_notes SET read_at = $4
		WHERE audience = $1 AND epoch = $2 AND seq = $3 AND deleted = 0 AND read_at = 0`
	isReadSQL = `SELECT EXISTS (SELECT 1 FROM hark_notes
		WHERE audience = $1 AND epoch = $2 AND seq = $3 AND deleted = 0 AND read_at <> 0)`
	broadcastSQL = `SELECT ` + broadcastReadAt + ` FROM hark_notes n
		LEFT JOIN hark_marks m ON m.reader = $1 AND m.epoch = n.epoch AND m.seq = n.seq
		WHERE n.audience = $2 AND n.epoch = $3 AND n.seq = $4 AND n.deleted = 0 AND n.read_at = 0 AND COALESCE(m.deleted, 0) = 0`
	markOwnUpToSQL = `UPDATE hark_notes SET read_at = $4
		WHERE audience = $1 AND deleted = 0 AND read_at = 0 AND (epoch, seq) <= ($2, $3)`
	newestBroadcastSQL = `SELECT n.epoch, n.seq FROM hark_notes n
		WHERE n.audience = $2 AND n.deleted = 0 AND n.read_at = 0 AND (n.epoch, n.seq) <= ($3, $4) AND ` + behindReadUpTo + `
		ORDER BY n.epoch DESC, n.seq DESC LIMIT 1`
	deleteUnreadSQL = `UPDATE hark_notes SET deleted = 1, body = $4
		WHERE audience = $1 AND epoch = $2 AND seq = $3 AND deleted = 0 AND read_at = 0`
	deleteReadSQL = `UPDATE hark_notes SET deleted = 1, body = $4
		WHERE audience = $1 AND epoch = $2 AND seq = $3 AND deleted = 0 AND read_at <> 0`
)

func markRead(ctx context.Context, tx *sql.Tx, user string, id jobs.EventID) (marked bool, err error) {
	args := []any{[]byte(user), int64(id.Epoch), int64(id.Seq)}
	if n, err := affected(tx.ExecContext(ctx, markOwnSQL, append(args, now())...)); err != nil || n > 0 {
		return n > 0, err
	}
	var there bool
	if err := tx.QueryRowContext(ctx, isReadSQL, args...).Scan(&there); err != nil || there {
		return false, err
	}
	readAt, err := broadcast(ctx, tx, user, id)
	if err != nil || readAt != 0 {
		return false, err
	}
	const mark = `INSERT INTO hark_marks (reader, epoch, seq, read_at) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING`
	n, err := affected(tx.ExecContext(ctx, mark, append(args, now())...))
	return n > 0, err
}

// broadcast says when user read the broadcast with this id, 0 for not yet, or returns ErrNotFound.
func broadcast(ctx context.Context, tx *sql.Tx, user string, id jobs.EventID) (readAt int64, err error) {
	err = tx.QueryRowContext(ctx, broadcastSQL, []byte(user), everyone, int64(id.Epoch), int64(id.Seq)).Scan(&readAt)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, ErrNotFound
	}
	return readAt, err
}

// MarkReadUpTo marks read what stands up to and including upTo; the zero id means all there is.
func (s *Store) MarkReadUpTo(ctx context.Context, user string, upTo jobs.EventID) (Change, error) {
	return s.change(ctx, "mark read up to", user, func(tx *sql.Tx, c *Change) error {
		if upTo == (jobs.EventID{}) {
			if err := tx.QueryRowContext(ctx, positionSQL).Scan(&upTo.Epoch, &upTo.Seq); errors.Is(err, sql.ErrNoRows) {
				return nil
			} else if err != nil {
				return err
			}
		}
		c.ReadUpTo = upTo.String()
		return markReadUpTo(ctx, tx, user, upTo)
	})
}

func markReadUpTo(ctx context.Context, tx *sql.Tx, user string, upTo jobs.EventID) error {
	epoch, seq := int64(upTo.Epoch), int64(min(upTo.Seq, math.MaxInt64))
	if _, err := tx.ExecContext(ctx, markOwnUpToSQL, []byte(user), epoch, seq, now()); err != nil {
		return err
	}
	// Of the broadcasts, remember the newest that this covers: not upTo itself, which may be ahead of
	// what the user can have seen.
	err := tx.QueryRowContext(ctx, newestBroadcastSQL, []byte(user), everyone, epoch, seq).Scan(&epoch, &seq)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	const remember = `INSERT INTO hark_read_up_to (reader, epoch, seq, read_at) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING`
	_, err = tx.ExecContext(ctx, remember, []byte(user), epoch, seq, now())
	return err
}

// Delete takes one notification out of user's inbox for good. It returns [ErrNotFound] if it is not there.
func (s *Store) Delete(ctx context.Context, user string, id jobs.EventID) (Change, error) {
	return s.change(ctx, "delete", user, func(tx *sql.Tx, c *Change) error {
		c.Deleted = []string{id.String()}
		return remove(ctx, tx, user, id)
	})
}

func remove(ctx context.Context, tx *sql.Tx, user string, id jobs.EventID) error {
	args := []any{[]byte(user), int64(id.Epoch), int64(id.Seq)}
	for _, query := range []string{deleteUnreadSQL, deleteReadSQL} {
		if n, err := affected(tx.ExecContext(ctx, query, append(args, []byte{})...)); err != nil || n > 0 {
			return err
		}
	}
	if _, err := broadcast(ctx, tx, user, id); err != nil {
		return err
	}
	const mark = `INSERT INTO hark_marks (reader, epoch, seq, deleted) VALUES ($1, $2, $3, 1)
		ON CONFLICT (reader, epoch, seq) DO UPDATE SET deleted = 1`
	_, err := tx.ExecContext(ctx, mark, args...)
	return err
}

// change runs do and then counts, in one transaction. Nobody but a service may speak for everyone, so
// everyone has no inbox of their own to change.
func (s *Store) change(ctx context.Context, op, user string, do func(*sql.Tx, *Change) error) (c Change, err error) {
	if user == jobs.Everyone {
		return Change{}, ErrNotFound
	}
	err = s.update(ctx, func(tx *sql.Tx) error {
		c = Change{}
		if err := do(tx, &c); err != nil {
			return err
		}
		n, upTo, err := unread(ctx, tx, user)
		c.Unread = n
		if upTo != (jobs.EventID{}) {
			c.UpTo = upTo.String()
		}
		return err
	})
	if errors.Is(err, ErrNotFound) {
		return Change{}, ErrNotFound
	}
	if err != nil {
		return Change{}, fmt.Errorf("inbox: %s: %w", op, err)
	}
	return c, nil
}

func affected(res sql.Result, err error) (int64, error) {
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

// now is the time of a reading, which people see: the clock of this machine will do.
func now() int64 { return time.Now().UnixMilli() }
