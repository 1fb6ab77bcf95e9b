package inbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/hark-jobs/hark/jobs"
)

// errNotMine says that another process fills the log.
var errNotMine = errors.New("inbox: another process fills the log")

// claim makes or keeps filler the one that fills the log from the stream of this epoch, for the time
// given, and returns the position to read on from. It returns errNotMine while another is.
func (s *Store) claim(ctx context.Context, epoch jobs.Epoch, filler string, term time.Duration) (seq uint64, err error) {
	err = s.update(ctx, func(tx *sql.Tx) error {
		const first = `INSERT INTO hark_positions (epoch) VALUES ($1) ON CONFLICT DO NOTHING`
		if _, err := tx.ExecContext(ctx, first, int64(epoch)); err != nil {
			return err
		}
		query := `UPDATE hark_positions SET filler = $1, claimed_until = ` + s.dialect.now + ` + $2
			WHERE epoch = $3 AND (filler = $1 OR claimed_until < ` + s.dialect.now + `) RETURNING seq`
		return tx.QueryRowContext(ctx, query, filler, term.Milliseconds(), int64(epoch)).Scan(&seq)
	})
	if errors.Is(err, sql.ErrNoRows) {
		return 0, errNotMine
	}
	if err != nil {
		return 0, fmt.Errorf("inbox: claim: %w", err)
	}
	return seq, nil
}

// release ends a claim before its time.
func (s *Store) release(ctx context.Context, filler string) error {
	return s.update(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE hark_positions SET claimed_until = 0 WHERE filler = $1`, filler)
		return err
	})
}

// rewind moves the position back to where the stream ends. A stream that lost its last messages gives
// their sequences to others; those of them that are in the log already are known by their keys.
func (s *Store) rewind(ctx context.Context, epoch jobs.Epoch, filler string, from, to uint64) error {
	err := s.update(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE hark_positions SET seq = $1 WHERE epoch = $2 AND seq = $3 AND filler = $4`,
			int64(to), int64(epoch), int64(from), filler)
		return err
	})
	if err != nil {
		return fmt.Errorf("inbox: rewind: %w", err)
	}
	return nil
}

// batch is what the stream holds behind from, up to and including to.
type batch struct {
	epoch    jobs.Epoch
	from, to uint64
	entries  []Entry
}

// fill appends b and moves the position to its end, in one transaction, and keeps the claim. If the
// position is not where b begins, or the claim is gone, it does nothing and returns errNotMine.
func (s *Store) fill(ctx context.Context, b batch, filler string, term time.Duration) error {
	rows, err := encode(b.entries)
	if err != nil {
		return fmt.Errorf("inbox: fill: %w", err)
	}
	insert, err := s.inserter(ctx, len(b.entries))
	if err != nil {
		return fmt.Errorf("inbox: fill: %w", err)
	}
	err = s.update(ctx, func(tx *sql.Tx) error {
		ctx := ctx
		if s.dialect.inProcess {
			ctx = context.WithoutCancel(ctx) // else each statement starts a goroutine, to be interrupted by
		}
		query := `UPDATE hark_positions SET seq = $1, claimed_until = ` + s.dialect.now + ` + $2
			WHERE epoch = $3 AND seq = $4 AND filler = $5`
		res, err := tx.ExecContext(ctx, query, int64(b.to), term.Milliseconds(), int64(b.epoch), int64(b.from), filler)
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n == 0 {
			return errors.Join(err, errNotMine)
		}
		return insert(ctx, tx, rows)
	})
	if errors.Is(err, errNotMine) {
		return errNotMine
	}
	if err != nil {
		return fmt.Errorf("inbox: fill: %w", err)
	}
	s.moved()
	return nil
}
