package inbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/hark-jobs/hark/jobs"
)

// errNotLeader says that another process has the lease.
var errNotLeader = errors.New("inbox: another process has the lease")

// acquireLease acquires or renews the lease of ingester for a stream in this epoch, and returns the position of the inbox.
// It returns errNotLeader while another ingester has the lease. All times are of the database's clock, which may have been set
// back: a lease that ends later than term from now is from before that, and does not count.
func (s *Store) acquireLease(ctx context.Context, stream []byte, epoch jobs.Epoch, ingester string, term time.Duration) (seq uint64, err error) {
	err = s.update(ctx, func(tx transaction) error {
		const first = `INSERT INTO {positions} (epoch, stream) VALUES ($1, $2) ON CONFLICT DO NOTHING`
		if _, err := tx.ExecContext(ctx, first, int64(epoch), stream); err != nil {
			return err
		}
		query := `UPDATE {positions} SET ingester = $1, lease_until = ` + s.dialect.now + ` + $2
			WHERE epoch = $3 AND stream = $4 AND (ingester = $1 OR lease_until < ` + s.dialect.now + ` OR lease_until > ` + s.dialect.now + ` + $2) RETURNING seq`
		return tx.QueryRowContext(ctx, query, ingester, term.Milliseconds(), int64(epoch), stream).Scan(&seq)
	})
	if errors.Is(err, sql.ErrNoRows) {
		return 0, errNotLeader
	}
	if err != nil {
		return 0, fmt.Errorf("inbox: acquire the lease: %w", err)
	}
	return seq, nil
}

// endLeases ends all leases of a stream. All ingesters that have one must be dead.
func (s *Store) endLeases(ctx context.Context, stream []byte) error {
	err := s.update(ctx, func(tx transaction) error {
		_, err := tx.ExecContext(ctx, `UPDATE {positions} SET lease_until = 0 WHERE stream = $1 AND lease_until <> 0`, stream)
		return err
	})
	if err != nil {
		return fmt.Errorf("inbox: end leases: %w", err)
	}
	return nil
}

// releaseLease ends a lease early.
func (s *Store) releaseLease(ctx context.Context, ingester string) error {
	return s.update(ctx, func(tx transaction) error {
		_, err := tx.ExecContext(ctx, `UPDATE {positions} SET lease_until = 0 WHERE ingester = $1`, ingester)
		return err
	})
}

// batch has the entries of a stream after from, up to and including to.
type batch struct {
	stream   []byte // as [everyoneIn] names it
	epoch    jobs.Epoch
	from, to uint64
	entries  []Entry
}

// ingest stores b, moves the position to its end, and renews the lease, in one transaction. If the position is not the start
// of b, or the lease is lost, it changes nothing and returns errNotLeader.
func (s *Store) ingest(ctx context.Context, b batch, ingester string, term time.Duration) error {
	rows, err := encode(b.entries)
	if err != nil {
		return fmt.Errorf("inbox: ingest: %w", err)
	}
	err = s.insert(ctx, rows, func(ctx context.Context, tx transaction) error {
		query := `UPDATE {positions} SET seq = $1, lease_until = ` + s.dialect.now + ` + $2
			WHERE epoch = $3 AND seq = $4 AND ingester = $5 AND stream = $6`
		res, err := tx.ExecContext(ctx, query, int64(b.to), term.Milliseconds(), int64(b.epoch), int64(b.from), ingester, b.stream)
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n == 0 {
			return errors.Join(err, errNotLeader)
		}
		return nil
	})
	if errors.Is(err, errNotLeader) {
		return errNotLeader
	}
	if err != nil {
		return fmt.Errorf("inbox: ingest: %w", err)
	}
	s.notifyChanged()
	return nil
}
