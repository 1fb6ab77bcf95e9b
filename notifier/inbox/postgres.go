package inbox

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
)

var postgresDialect = dialect{
	name: "postgres",
	// The number is "hark" in ASCII. The lock ends with the transaction.
	lockMigrations: `SELECT pg_advisory_xact_lock(1751216747)`,
	now:            `CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)`,
	isBusy:         func(error) bool { return false },
	rowsAtOnce:     []int{100}, // the rest in one go: each takes a round trip
	insert:         `INSERT`,
	unlessThere:    `ON CONFLICT DO NOTHING`,
	snapshot:       &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true},
}

// openPostgres makes a pool that connects when it is first used. The URL may tune it: pool_max_conns and
// its like, as pgxpool takes them.
func openPostgres(url string) (*Store, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("inbox: open: %w", err)
	}
	if params := config.ConnConfig.RuntimeParams; params["application_name"] == "" {
		params["application_name"] = "hark"
	}
	pool, err := pgxpool.NewWithConfig(context.Background(), config)
	if err != nil {
		return nil, fmt.Errorf("inbox: open: %w", err)
	}
	db := stdlib.OpenDBFromPool(pool)
	return newStore(postgresDialect, db, db, db, closerFunc(pool.Close)), nil
}

type closerFunc func()

func (f closerFunc) Close() error {
	f()
	return nil
}
