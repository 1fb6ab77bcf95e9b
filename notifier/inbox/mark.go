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

// Change is what a user did with their inbox, and the count after it: the data of the event "inbox". Ids are in the form of
// [jobs.NotificationID.String].
type Change struct {
	Unread int `json:"unread"` // at most [CountLimit]
	// Read and Deleted are the ids that were changed. Read is empty if the notification was read before.
	Read []string `json:"read,omitempty"`
	// ReadUpTo is set if all notifications up to and including it are read.
	ReadUpTo string   `json:"read_up_to,omitempty"`
	Deleted  []string `json:"deleted,omitempty"`
	// UpTo is the position of the inbox: Unread does not count later notifications. It never decreases.
	UpTo string `json:"up_to,omitempty"`
}

// MarkRead marks a notification as read. The time of the first reading stays. It returns [ErrNotFound] if the notification is
// not in the user's inbox.
func (s *Store) MarkRead(ctx context.Context, user string, id jobs.NotificationID) (Change, error) {
	return s.change(ctx, "mark read", user, func(tx transaction, c *Change) error {
		marked, err := markRead(ctx, tx, user, s.everyoneOf(user), id)
		if marked {
			c.Read = []string{id.String()}
		}
		return err
	})
}

// Queries for a user's own notification say whether it is read, since unread and read ones are in different indexes: see
// [ownPart]. The row of a broadcast is always in the index of unread ones.
const (
	markOwnSQL = `UPDATE {notifications} SET read_at = $4
		WHERE audience = $1 AND epoch = $2 AND seq = $3 AND deleted = 0 AND read_at = 0 {kept}`
	isReadSQL = `SELECT EXISTS (SELECT 1 FROM {notifications}
		WHERE audience = $1 AND epoch = $2 AND seq = $3 AND deleted = 0 AND read_at <> 0 {kept})`
	broadcastSQL = `SELECT ` + broadcastReadAt + ` FROM {notifications} n
		LEFT JOIN {receipts} m ON m.reader = $1 AND m.epoch = n.epoch AND m.seq = n.seq
		WHERE n.audience = $2 AND n.epoch = $3 AND n.seq = $4 AND n.deleted = 0 AND n.read_at = 0 {kept} AND COALESCE(m.deleted, 0) = 0`
	markOwnUpToSQL = `UPDATE {notifications} SET read_at = $4
		WHERE audience = $1 AND deleted = 0 AND read_at = 0 AND (epoch, seq) <= ($2, $3) {kept}`
	newestBroadcastSQL = `SELECT n.epoch, n.seq FROM {notifications} n
		WHERE n.audience = $2 AND n.deleted = 0 AND n.read_at = 0 AND (n.epoch, n.seq) <= ($3, $4) {kept} AND (n.epoch, n.seq) > ` + readPosition + `
		ORDER BY n.epoch DESC, n.seq DESC LIMIT 1`
	deleteUnreadSQL = `UPDATE {notifications} SET deleted = 1, body = $4
		WHERE audience = $1 AND epoch = $2 AND seq = $3 AND deleted = 0 AND read_at = 0 {kept}`
	deleteReadSQL = `UPDATE {notifications} SET deleted = 1, body = $4
		WHERE audience = $1 AND epoch = $2 AND seq = $3 AND deleted = 0 AND read_at <> 0 {kept}`
)

func markRead(ctx context.Context, tx transaction, user string, everyone []byte, id jobs.NotificationID) (marked bool, err error) {
	args := []any{[]byte(user), int64(id.Epoch), int64(id.Seq)}
	if n, err := affected(tx.ExecContext(ctx, markOwnSQL, append(args, now())...)); err != nil || n > 0 {
		return n > 0, err
	}
	var there bool
	if err := tx.QueryRowContext(ctx, isReadSQL, args...).Scan(&there); err != nil || there {
		return false, err
	}
	readAt, err := broadcast(ctx, tx, user, everyone, id)
	if err != nil || readAt != 0 {
		return false, err
	}
	const insert = `INSERT INTO {receipts} (reader, epoch, seq, read_at) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING`
	n, err := affected(tx.ExecContext(ctx, insert, append(args, now())...))
	return n > 0, err
}

// broadcast returns when a user read the broadcast with this id, or 0 if it is unread. It returns [ErrNotFound] if the user has
// no such broadcast.
func broadcast(ctx context.Context, tx transaction, user string, everyone []byte, id jobs.NotificationID) (readAt int64, err error) {
	err = tx.QueryRowContext(ctx, broadcastSQL, []byte(user), everyone, int64(id.Epoch), int64(id.Seq)).Scan(&readAt)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, ErrNotFound
	}
	return readAt, err
}

// MarkReadUpTo marks all notifications up to and including upTo as read. The zero id means all.
func (s *Store) MarkReadUpTo(ctx context.Context, user string, upTo jobs.NotificationID) (Change, error) {
	return s.change(ctx, "mark read up to", user, func(tx transaction, c *Change) error {
		if upTo == (jobs.NotificationID{}) {
			if err := tx.QueryRowContext(ctx, positionSQL, s.everyoneOf(user)).Scan(&upTo.Epoch, &upTo.Seq); errors.Is(err, sql.ErrNoRows) {
				return nil
			} else if err != nil {
				return err
			}
		}
		c.ReadUpTo = upTo.String()
		return markReadUpTo(ctx, tx, user, s.everyoneOf(user), upTo)
	})
}

func markReadUpTo(ctx context.Context, tx transaction, user string, everyone []byte, upTo jobs.NotificationID) error {
	epoch, seq := int64(upTo.Epoch), int64(min(upTo.Seq, math.MaxInt64))
	if _, err := tx.ExecContext(ctx, markOwnUpToSQL, []byte(user), epoch, seq, now()); err != nil {
		return err
	}
	// Store the newest broadcast up to upTo, not upTo itself, which may be ahead of everything that the user has seen.
	err := tx.QueryRowContext(ctx, newestBroadcastSQL, []byte(user), everyone, epoch, seq).Scan(&epoch, &seq)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	const insert = `INSERT INTO {read_positions} (reader, epoch, seq, read_at) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING`
	_, err = tx.ExecContext(ctx, insert, []byte(user), epoch, seq, now())
	return err
}

// Delete deletes a notification from a user's inbox. It returns [ErrNotFound] if the notification is not there.
func (s *Store) Delete(ctx context.Context, user string, id jobs.NotificationID) (Change, error) {
	return s.change(ctx, "delete", user, func(tx transaction, c *Change) error {
		c.Deleted = []string{id.String()}
		return remove(ctx, tx, user, s.everyoneOf(user), id)
	})
}

func remove(ctx context.Context, tx transaction, user string, everyone []byte, id jobs.NotificationID) error {
	args := []any{[]byte(user), int64(id.Epoch), int64(id.Seq)}
	for _, query := range []string{deleteUnreadSQL, deleteReadSQL} {
		if n, err := affected(tx.ExecContext(ctx, query, append(args, []byte{})...)); err != nil || n > 0 {
			return err
		}
	}
	if _, err := broadcast(ctx, tx, user, everyone, id); err != nil {
		return err
	}
	const insert = `INSERT INTO {receipts} (reader, epoch, seq, deleted) VALUES ($1, $2, $3, 1)
		ON CONFLICT (reader, epoch, seq) DO UPDATE SET deleted = 1`
	_, err := tx.ExecContext(ctx, insert, args...)
	return err
}

// change calls do and then counts, in one transaction. [jobs.Everyone] has no inbox to change.
func (s *Store) change(ctx context.Context, op, user string, do func(transaction, *Change) error) (c Change, err error) {
	if user == jobs.Everyone {
		return Change{}, ErrNotFound
	}
	err = s.update(ctx, func(tx transaction) error {
		c = Change{}
		if err := do(tx, &c); err != nil {
			return err
		}
		n, upTo, err := unread(ctx, tx, user, s.everyoneOf(user))
		c.Unread = n
		if upTo != (jobs.NotificationID{}) {
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

// now returns the time of a reading, by the clock of this machine: the time is for display only.
func now() int64 { return time.Now().UnixMilli() }
