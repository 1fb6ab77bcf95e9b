package inbox

import (
	"context"
	"database/sql"
)

// transaction is a transaction for queries with the names of tables in braces: see [names].
type transaction struct {
	tx    *sql.Tx
	names *names
}

func (t transaction) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	return t.tx.ExecContext(ctx, t.names.sql(query), args...)
}

func (t transaction) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	return t.tx.QueryContext(ctx, t.names.sql(query), args...)
}

func (t transaction) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	return t.tx.QueryRowContext(ctx, t.names.sql(query), args...)
}

// lockSQL acquires the write lock and changes nothing. On a SQLite handle of the caller, a transaction may begin without the write
// lock. If it reads before it writes, and another one writes between, it fails: SQLite cannot wait in that case.
const lockSQL = `UPDATE {migrations} SET version = version WHERE version < 0`

// update calls do in a transaction that may write.
func (s *Store) update(ctx context.Context, do func(transaction) error) error {
	return s.transact(ctx, s.write, nil, func(tx transaction) error {
		if s.lockFirst {
			if _, err := tx.ExecContext(ctx, lockSQL); err != nil {
				return err
			}
		}
		return do(tx)
	})
}

// view calls do in a transaction whose reads all see the same moment.
func (s *Store) view(ctx context.Context, do func(transaction) error) error {
	return s.transact(ctx, s.read, s.dialect.snapshot, do)
}

func (s *Store) transact(ctx context.Context, db *sql.DB, opts *sql.TxOptions, do func(transaction) error) error {
	if err := s.ready(ctx); err != nil {
		return err
	}
	tx, err := db.BeginTx(ctx, opts)
	if err != nil {
		return err
	}
	if err := do(transaction{tx, s.names}); err != nil {
		_ = tx.Rollback() // the first error says more
		return err
	}
	return tx.Commit()
}

// queryRow reads a row outside of a transaction.
func (s *Store) queryRow(ctx context.Context, query string, args ...any) *sql.Row {
	return s.read.QueryRowContext(ctx, s.names.sql(query), args...)
}
