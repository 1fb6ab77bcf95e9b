package inbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
)

var postgresDialect = dialect{
	name: "postgres",
	// The number is "hark" in ASCII. The lock ends with the transaction.
	lockMigrations: `SELECT pg_advisory_xact_lock(1751216747)`,
	now:            `CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)`,
	isBusy:         func(error) bool { return false },
	partitioned:    true,
	parameter:      `$`,
	hasSchema:      `SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = $1)`,
	createSchema:   `CREATE SCHEMA {schema}`,
	hasTable:       `SELECT to_regclass($1) IS NOT NULL`,
	isDenied: func(err error) bool {
		var e *pgconn.PgError
		return errors.As(err, &e) && e.Code == "42501" // insufficient_privilege
	},
	snapshot: &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true},
}

// NewPostgres returns a Store in the database of a pool that the caller owns. The caller must close the pool after the Store.
// NewPostgres does not connect, like [Open]. Queries contain the schema and need no state of a session, so the pool may connect
// through a pooler in transaction mode (PgBouncer). Then default_query_exec_mode must be cache_describe, exec or
// simple_protocol, unless the pooler supports prepared statements.
func NewPostgres(pool *pgxpool.Pool, o Options) (*Store, error) {
	if pool == nil {
		return nil, errors.New("inbox: new: the pool is nil")
	}
	n, err := newNames(postgresDialect, o)
	if err != nil {
		return nil, fmt.Errorf("inbox: new: %w", err)
	}
	db := stdlib.OpenDBFromPool(pool) // it has no connections of its own, and does not close the pool
	return newStore(postgresDialect, n, db, db, db), nil
}

// openPostgres creates a pool, which connects on first use. The URL may have the parameters of pgxpool, such as pool_max_conns,
// and default_query_exec_mode, which otherwise is detected.
func openPostgres(url string, o Options) (*Store, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("inbox: open: %w", err)
	}
	if params := config.ConnConfig.RuntimeParams; params["application_name"] == "" {
		params["application_name"] = "hark"
	}
	if !strings.Contains(url, "default_query_exec_mode") {
		config.ConnConfig.Tracer = poolerTracer{}
	}
	pool, err := pgxpool.NewWithConfig(context.Background(), config)
	if err != nil {
		return nil, fmt.Errorf("inbox: open: %w", err)
	}
	s, err := NewPostgres(pool, o)
	if err != nil {
		pool.Close()
		return nil, err
	}
	s.closers = append(s.closers, closerFunc(pool.Close))
	return s, nil
}

// poolerTracer chooses for each new connection how statements are executed. pgx prepares a statement under a name, once per
// connection. Behind a pooler in transaction mode (PgBouncer) the next execution may reach another session of the server, which
// does not have the statement. Sending the whole statement each time works everywhere, but the server plans it each time: by
// BenchmarkLog a page takes 2.5 times as long. So hark does that behind a pooler only.
//
// It is a tracer, since only a tracer gets the connection before its first use, and its configuration.
type poolerTracer struct{}

type connectingKey struct{}

// TraceConnectStart implements [pgx.ConnectTracer].
func (poolerTracer) TraceConnectStart(ctx context.Context, data pgx.TraceConnectStartData) context.Context {
	return context.WithValue(ctx, connectingKey{}, data.ConnConfig)
}

// TraceConnectEnd implements [pgx.ConnectTracer]. It blocks for a round trip. The configuration that it changes belongs to this
// connection alone, which is not in use yet.
func (poolerTracer) TraceConnectEnd(ctx context.Context, data pgx.TraceConnectEndData) {
	config, ok := ctx.Value(connectingKey{}).(*pgx.ConnConfig)
	if data.Err != nil || !ok {
		return
	}
	// A connection has a process id for cancelling queries ("Canceling Requests in Progress" in PostgreSQL's documentation of
	// its protocol). A server returns that of its own process, and a pooler returns another number.
	var pid uint32
	err := data.Conn.QueryRow(ctx, `SELECT pg_backend_pid()`, pgx.QueryExecModeExec).Scan(&pid)
	if err != nil || pid != data.Conn.PgConn().PID() {
		config.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe // works in both cases
	}
}

// TraceQueryStart implements [pgx.QueryTracer]. Queries are not traced.
func (poolerTracer) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	return ctx
}

// TraceQueryEnd implements [pgx.QueryTracer].
func (poolerTracer) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

type closerFunc func()

func (f closerFunc) Close() error {
	f()
	return nil
}
