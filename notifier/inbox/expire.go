package inbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// expireBatch is the number of rows in a transaction of [Store.Expire], so that other transactions can run between.
const expireBatch = 1000

const (
	expireSQL = `DELETE FROM {notifications} WHERE id IN
		(SELECT id FROM {notifications} WHERE created_at < $1 ORDER BY created_at LIMIT $2)`
	oldestBroadcastSQL = `SELECT epoch, seq FROM {notifications}
		WHERE audience = $1 AND deleted = 0 AND read_at = 0 {kept} ORDER BY epoch, seq LIMIT 1`
)

// Expire deletes the notifications that were created before a time, and what users did with them. It returns the number of
// deleted notifications, also with an error. It works in small transactions, and stops between them when ctx ends.
//
// In PostgreSQL they are invisible at once and for good, also if a later call has an earlier time, and their rows are deleted with
// their partition: up to [partitionTime] later. Expire also creates the next partition. It needs the rights of the tables' owner.
func (s *Store) Expire(ctx context.Context, before time.Time) (n int, err error) {
	if s.dialect.partitioned {
		n, err = s.expirePartitions(ctx, before.UnixMilli())
	} else {
		n, err = s.deleteAll(ctx, expireSQL, before.UnixMilli())
	}
	if err != nil {
		return n, fmt.Errorf("inbox: expire: %w", err)
	}
	epoch, seq, err := s.oldestBroadcast(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		return n, nil
	}
	if err != nil {
		return n, fmt.Errorf("inbox: expire: %w", err)
	}
	// Receipts before the oldest broadcast are of no use.
	for _, table := range []string{"{receipts}", "{read_positions}"} {
		query := `DELETE FROM ` + table + ` WHERE (reader, epoch, seq) IN
			(SELECT reader, epoch, seq FROM ` + table + ` WHERE (epoch, seq) < ($1, $2) LIMIT $3)`
		if _, err := s.deleteAll(ctx, query, epoch, seq); err != nil {
			return n, fmt.Errorf("inbox: expire: %s: %w", table, err)
		}
	}
	return n, nil
}

// oldestBroadcast returns the epoch and the sequence of the oldest broadcast, or those after the position if there is none. With
// several streams it is the least one of all: a receipt does not name its stream. It returns [sql.ErrNoRows] before the first
// notification.
func (s *Store) oldestBroadcast(ctx context.Context) (epoch, seq int64, err error) {
	found := false
	for i, n := 0, s.streamCount(); i < n; i++ {
		var e, q int64
		err := s.queryRow(ctx, oldestBroadcastSQL, everyoneIn(i, n)).Scan(&e, &q)
		if errors.Is(err, sql.ErrNoRows) {
			err = s.queryRow(ctx, positionSQL, everyoneIn(i, n)).Scan(&e, &q)
			q++ // includes receipts at the position
		}
		if errors.Is(err, sql.ErrNoRows) {
			continue
		}
		if err != nil {
			return 0, 0, err
		}
		if !found || e < epoch || e == epoch && q < seq {
			found, epoch, seq = true, e, q
		}
	}
	if !found {
		return 0, 0, sql.ErrNoRows
	}
	return epoch, seq, nil
}

// deleteAll repeats query until it deletes fewer rows than its limit, which is its last argument. It returns the number of
// deleted rows.
func (s *Store) deleteAll(ctx context.Context, query string, args ...any) (total int, err error) {
	for {
		var n int64
		err := s.update(ctx, func(tx transaction) (err error) {
			n, err = affected(tx.ExecContext(ctx, query, append(args, expireBatch)...))
			return err
		})
		total += int(n)
		if err != nil || n < expireBatch {
			return total, err
		}
	}
}
