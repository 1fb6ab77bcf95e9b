package inbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// expireBatch bounds a transaction of [Store.Expire], so that others get their turn in between.
const expireBatch = 1000

const (
	expireSQL = `DELETE FROM hark_notes WHERE id IN
		(SELECT id FROM hark_notes WHERE created_at < $1 ORDER BY created_at LIMIT $2)`
	oldestBroadcastSQL = `SELECT epoch, seq FROM hark_notes
		WHERE audience = $1 AND deleted = 0 AND read_at = 0 ORDER BY epoch, seq LIMIT 1`
)

// Expire forgets the notifications created before that time, with all that was done with them, and
// returns how many. It works in small transactions: when ctx ends, what is gone is gone.
func (s *Store) Expire(ctx context.Context, before time.Time) (n int, err error) {
	if n, err = s.deleteAll(ctx, expireSQL, before.UnixMilli()); err != nil {
		return n, fmt.Errorf("inbox: expire: %w", err)
	}
	// Marks are of use as long as there is a broadcast to which they may belong.
	var epoch, seq int64
	err = s.read.QueryRowContext(ctx, oldestBroadcastSQL, everyone).Scan(&epoch, &seq)
	if errors.Is(err, sql.ErrNoRows) {
		err = s.read.QueryRowContext(ctx, positionSQL).Scan(&epoch, &seq)
		seq++ // also those at the position itself
	}
	if errors.Is(err, sql.ErrNoRows) {
		return n, nil
	}
	if err != nil {
		return n, fmt.Errorf("inbox: expire: %w", err)
	}
	for _, table := range []string{"hark_marks", "hark_read_up_to"} {
		marks := `DELETE FROM ` + table + ` WHERE (reader, epoch, seq) IN
			(SELECT reader, epoch, seq FROM ` + table + ` WHERE (epoch, seq) < ($1, $2) LIMIT $3)`
		if _, err := s.deleteAll(ctx, marks, epoch, seq); err != nil {
			return n, fmt.Errorf("inbox: expire: %s: %w", table, err)
		}
	}
	return n, nil
}

// deleteAll repeats query, whose last argument is its limit, until nothing is left for it to delete.
func (s *Store) deleteAll(ctx context.Context, query string, args ...any) (total int, err error) {
	for {
		var n int64
		err := s.update(ctx, func(tx *sql.Tx) (err error) {
			n, err = affected(tx.ExecContext(ctx, query, append(args, expireBatch)...))
			return err
		})
		total += int(n)
		if err != nil || n < expireBatch {
			return total, err
		}
	}
}
