package inbox

import (
	"context"
	"database/sql"
)

// statement is a query whose plan is kept from one transaction to the next where that pays.
type statement struct {
	text string
	kept *sql.Stmt // nil if the driver keeps plans by itself
}

// prepare makes a statement for transactions on db. It must be called before the transaction begins: it may
// need a connection of its own. There must not be many different queries.
func (s *Store) prepare(ctx context.Context, db *sql.DB, query string) (statement, error) {
	if !s.dialect.keepStatements {
		return statement{text: query}, nil
	}
	kept, ok := s.statements.Load(query)
	if !ok {
		if err := s.ready(ctx); err != nil {
			return statement{}, err
		}
		made, err := db.PrepareContext(ctx, query)
		if err != nil {
			return statement{}, err
		}
		if kept, ok = s.statements.LoadOrStore(query, made); ok {
			_ = made.Close() // another call was quicker
		}
	}
	return statement{query, kept.(*sql.Stmt)}, nil
}

func (st statement) query(ctx context.Context, tx *sql.Tx, args ...any) (*sql.Rows, error) {
	if st.kept == nil {
		return tx.QueryContext(ctx, st.text, args...)
	}
	return tx.StmtContext(ctx, st.kept).QueryContext(ctx, args...)
}

func (st statement) exec(ctx context.Context, tx *sql.Tx, args ...any) (sql.Result, error) {
	if st.kept == nil {
		return tx.ExecContext(ctx, st.text, args...)
	}
	return tx.StmtContext(ctx, st.kept).ExecContext(ctx, args...)
}
