package inbox

import (
	"context"
	"database/sql"
)

// statement is a query that is prepared once, unless the driver does that by itself.
type statement struct {
	text string
	kept *sql.Stmt // nil if the driver caches prepared statements
}

// prepare returns a statement for transactions on db. It must be called before the transaction begins, since it may need another
// connection. Statements are cached, so there must not be many different queries.
func (s *Store) prepare(ctx context.Context, db *sql.DB, query string) (statement, error) {
	if !s.dialect.keepStatements {
		return statement{text: query}, nil
	}
	query = s.names.sql(query)
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
			_ = made.Close() // a concurrent call has stored another one
		}
	}
	return statement{query, kept.(*sql.Stmt)}, nil
}

func (st statement) query(ctx context.Context, tx transaction, args ...any) (*sql.Rows, error) {
	if st.kept == nil {
		return tx.QueryContext(ctx, st.text, args...)
	}
	return tx.tx.StmtContext(ctx, st.kept).QueryContext(ctx, args...)
}

func (st statement) exec(ctx context.Context, tx transaction, args ...any) (sql.Result, error) {
	if st.kept == nil {
		return tx.ExecContext(ctx, st.text, args...)
	}
	return tx.tx.StmtContext(ctx, st.kept).ExecContext(ctx, args...)
}
