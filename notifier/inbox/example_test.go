package inbox_test

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/notifier/inbox"
)

// The inbox in a schema of a PostgreSQL database that the program owns.
func ExampleNewPostgres() {
	open := func(pool *pgxpool.Pool) (*inbox.Store, error) {
		return inbox.NewPostgres(pool, inbox.Options{Schema: "hark"})
	}
	_ = open
}

// The inbox in a SQLite database of the program, beside its own tables.
func ExampleNewSQLite() {
	open := func() (*inbox.Store, error) {
		db, err := sql.Open("sqlite", "app.db?_pragma=journal_mode(WAL)&_pragma=busy_timeout(10000)&_txlock=immediate")
		if err != nil {
			return nil, err
		}
		return inbox.NewSQLite(db, db, inbox.Options{TablePrefix: "hark_"})
	}
	_ = open
}

// A page of the unread notifications of a user.
func ExampleStore_List() {
	list := func(ctx context.Context, store *inbox.Store) error {
		page, err := store.List(ctx, "ana", inbox.ListOptions{Status: jobs.Unread, Limit: 20})
		if err != nil {
			return err
		}
		for _, n := range page.Notifications {
			fmt.Println(n.CreatedAt, n.Title)
		}
		return nil
	}
	_ = list
}
