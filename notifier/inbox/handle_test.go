package inbox_test

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/hark-jobs/hark/internal/pgtest"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/notifier/inbox"
)

func openPool(t *testing.T, dsn string) *pgxpool.Pool {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

// openFile opens a SQLite file like a program of its own may do: transactions begin without the write lock.
func openFile(t *testing.T) *sql.DB {
	t.Helper()
	query := url.Values{"_pragma": {"journal_mode(WAL)", "busy_timeout(60000)"}}
	db, err := sql.Open("sqlite", "file:"+filepath.Join(t.TempDir(), "app.db")+"?"+query.Encode())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// handles runs test on handles that the test owns. make returns another inbox in the same database.
func handles(t *testing.T, test func(t *testing.T, ping func() error, another func(name string) *inbox.Store)) {
	t.Parallel()
	must := func(t *testing.T, s *inbox.Store, err error) *inbox.Store {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		db := openFile(t)
		test(t, db.Ping, func(name string) *inbox.Store {
			s, err := inbox.NewSQLite(db, db, inbox.Options{TablePrefix: name + "_"})
			return must(t, s, err)
		})
	})
	for name, dsn := range map[string]func() string{
		"postgres":                  func() string { return pgtest.DSN(t) },
		"pgbouncer, cache_describe": func() string { return pgtest.Pooled(t) + "&default_query_exec_mode=cache_describe" },
		"pgbouncer, exec":           func() string { return pgtest.Pooled(t) + "&default_query_exec_mode=exec" },
		"pgbouncer, simple":         func() string { return pgtest.Pooled(t) + "&default_query_exec_mode=simple_protocol" },
	} {
		pool := openPool(t, dsn())
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ping := func() error {
				// Nothing is kept of the pool, either.
				if n := pool.Stat().AcquiredConns(); n != 0 {
					return fmt.Errorf("%d connections are in use", n)
				}
				return pool.Ping(t.Context())
			}
			test(t, ping, func(name string) *inbox.Store {
				s, err := inbox.NewPostgres(pool, inbox.Options{Schema: "inbox of " + name})
				return must(t, s, err)
			})
		})
	}
}

// Two inboxes in one database are independent, and their handle stays open when they are closed.
func TestTwoInboxesInOneDatabase(t *testing.T) {
	handles(t, func(t *testing.T, ping func() error, another func(name string) *inbox.Store) {
		one, two := another("one"), another("two")
		add(t, one, entry("ana", 1), entry(jobs.Everyone, 2), entry("ana", 3))
		if got := position(t, two); got != (jobs.NotificationID{}) {
			t.Errorf("the position of the second is %s", got)
		}
		add(t, two, entry("ana", 1), entry(jobs.Everyone, 2), entry("ana", 5))
		for _, id := range []jobs.NotificationID{at(1), at(2)} {
			if _, err := one.MarkRead(t.Context(), "ana", id); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := one.Delete(t.Context(), "ana", at(3)); err != nil {
			t.Fatal(err)
		}
		if got, want := seqs(t, one, "ana", ""), []string{"2r", "1r"}; !slices.Equal(got, want) {
			t.Errorf("the first has %v, want %v", got, want)
		}
		if got, want := seqs(t, two, "ana", jobs.Unread), []string{"5", "2", "1"}; !slices.Equal(got, want) {
			t.Errorf("the second has %v, want %v", got, want)
		}
		if n, err := one.Expire(t.Context(), noon.Add(time.Hour)); n != 3 || err != nil {
			t.Errorf("the first expired %d, %v; want 3", n, err)
		}
		if c, err := two.MarkReadUpTo(t.Context(), "ana", jobs.NotificationID{}); err != nil || c.Unread != 0 {
			t.Errorf("mark all of the second: %+v, %v", c, err)
		}

		if err := one.Close(); err != nil {
			t.Error(err)
		}
		if err := ping(); err != nil {
			t.Errorf("the handle after the first is closed: %v", err)
		}
		if got, want := seqs(t, two, "ana", ""), []string{"5r", "2r", "1r"}; !slices.Equal(got, want) {
			t.Errorf("the second has %v, want %v", got, want)
		}
		if err := two.Close(); err != nil {
			t.Error(err)
		}
		if err := ping(); err != nil {
			t.Errorf("the handle after both are closed: %v", err)
		}
		again := another("two")
		if got, want := seqs(t, again, "ana", ""), []string{"5r", "2r", "1r"}; !slices.Equal(got, want) {
			t.Errorf("opened again, the second has %v, want %v", got, want)
		}
		if err := again.Close(); err != nil {
			t.Error(err)
		}
	})
}

// An ingester works with a handle of the caller.
func TestIngestOnAHandle(t *testing.T) {
	handles(t, func(t *testing.T, _ func() error, another func(name string) *inbox.Store) {
		store := another("app")
		t.Cleanup(func() { _ = store.Close() })
		s := newStream(t)
		s.notify("ana", 0)
		s.ingest(store)
		s.notify("ana", 1)
		wantTitles(t, store, "ana", 0, 1)
	})
}

// On a SQLite handle whose transactions begin without the write lock, a transaction that reads before it writes does not fail
// when another one writes between.
func TestSQLiteHandleAtOnce(t *testing.T) {
	t.Parallel()
	db := openFile(t)
	var stores []*inbox.Store
	for range 4 {
		s, err := inbox.NewSQLite(db, db, inbox.Options{})
		if err != nil {
			t.Fatal(err)
		}
		stores = append(stores, s)
		t.Cleanup(func() { _ = s.Close() })
	}
	var all sync.WaitGroup
	for i, s := range stores {
		all.Go(func() {
			user := fmt.Sprint("user-", i)
			for n := range uint64(100) {
				if err := s.Append(t.Context(), []inbox.Entry{entry(user, 1+n*4+uint64(i))}); err != nil {
					t.Error(err)
					return
				}
				if c, err := s.MarkReadUpTo(t.Context(), user, jobs.NotificationID{}); err != nil || c.Unread != 0 {
					t.Errorf("mark all: %+v, %v", c, err)
					return
				}
			}
		})
	}
	all.Wait()
}

// A handle with a single connection, which many programs use for SQLite, is enough.
func TestSQLiteHandleOfOneConnection(t *testing.T) {
	t.Parallel()
	db := openFile(t)
	db.SetMaxOpenConns(1)
	s, err := inbox.NewSQLite(db, db, inbox.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx := within(t, time.Minute)
	if err := s.Append(ctx, []inbox.Entry{entry("ana", 1), entry(jobs.Everyone, 2)}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.MarkRead(ctx, "ana", at(2)); err != nil {
		t.Fatal(err)
	}
	if page, err := s.List(ctx, "ana", inbox.ListOptions{}); err != nil || len(page.Notifications) != 2 || page.Unread != 1 {
		t.Errorf("the page is %+v, %v", page, err)
	}
}

// A database user without the right to create anything gets an error that says what to grant, until that is done: the schema is
// created, the user may create tables, or the user has the rights of the tables' owner, for partitions.
func TestUserWithoutCreateRights(t *testing.T) {
	t.Parallel()
	admin := openPool(t, pgtest.DSN(t))
	run := func(sql string) {
		t.Helper()
		if _, err := admin.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	var name string // roles belong to the cluster, which other tests share
	if err := admin.QueryRow(t.Context(), `SELECT current_database() || '_user'`).Scan(&name); err != nil {
		t.Fatal(err)
	}
	run(`CREATE ROLE ` + name + ` LOGIN`)
	run(`REVOKE CREATE ON SCHEMA public FROM PUBLIC`) // the default from PostgreSQL 15 on
	t.Cleanup(func() {
		if _, err := admin.Exec(context.Background(), `DROP OWNED BY `+name+`; DROP ROLE `+name); err != nil {
			t.Error(err)
		}
	})
	config := admin.Config()
	config.ConnConfig.User = name
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)

	in := func(pool *pgxpool.Pool, schema string) *inbox.Store {
		t.Helper()
		s, err := inbox.NewPostgres(pool, inbox.Options{Schema: schema})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		return s
	}
	refused := func(s *inbox.Store, want string) {
		t.Helper()
		if err := s.Ping(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Ping: %v, want an error with %q", err, want)
		}
	}
	works := func(s *inbox.Store) {
		t.Helper()
		add(t, s, entry("ana", 1), entry(jobs.Everyone, 2))
		if _, err := s.MarkRead(t.Context(), "ana", at(1)); err != nil {
			t.Error(err)
		}
		if _, err := s.Delete(t.Context(), "ana", at(2)); err != nil {
			t.Error(err)
		}
		if got, want := seqs(t, s, "ana", ""), []string{"1r"}; !slices.Equal(got, want) {
			t.Errorf("the inbox has %v, want %v", got, want)
		}
		if n, err := s.Expire(t.Context(), noon.Add(time.Hour)); n != 2 || err != nil {
			t.Errorf("expired %d, %v; want 2", n, err)
		}
	}

	refused(in(pool, ""), "GRANT USAGE, CREATE ON SCHEMA public")
	s := in(pool, "my app")
	refused(s, `CREATE SCHEMA "my app" AUTHORIZATION`)
	run(`CREATE SCHEMA "my app"`)
	refused(s, `GRANT USAGE, CREATE ON SCHEMA "my app"`)
	run(`GRANT USAGE ON SCHEMA "my app" TO ` + name)
	refused(s, `GRANT USAGE, CREATE ON SCHEMA "my app"`)
	run(`GRANT CREATE ON SCHEMA "my app" TO ` + name)
	works(s)

	const theirs = "made by others"
	if err := in(admin, theirs).Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	quoted := pgx.Identifier{theirs}.Sanitize()
	run(`GRANT USAGE ON SCHEMA ` + quoted + ` TO ` + name)
	run(`GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA ` + quoted + ` TO ` + name)
	s = in(pool, theirs)
	if err := s.Append(t.Context(), []inbox.Entry{entry("ana", 1)}); err == nil || !strings.Contains(err.Error(), "GRANT <owner> TO <user>") {
		t.Errorf("Append: %v, want an error that says what to grant", err)
	}
	run(`GRANT ` + admin.Config().ConnConfig.User + ` TO ` + name)
	works(s)
}

func TestHandleIsRefused(t *testing.T) {
	t.Parallel()
	db, pool := openFile(t), openPool(t, "postgres://nobody@localhost/none") // nothing connects
	for name, open := range map[string]func() (*inbox.Store, error){
		"no pool":               func() (*inbox.Store, error) { return inbox.NewPostgres(nil, inbox.Options{}) },
		"no writer":             func() (*inbox.Store, error) { return inbox.NewSQLite(nil, db, inbox.Options{}) },
		"no reader":             func() (*inbox.Store, error) { return inbox.NewSQLite(db, nil, inbox.Options{}) },
		"a schema in SQLite":    func() (*inbox.Store, error) { return inbox.NewSQLite(db, db, inbox.Options{Schema: "app"}) },
		"sync of a handle":      func() (*inbox.Store, error) { return inbox.NewSQLite(db, db, inbox.Options{SyncAlways: true}) },
		"a quote in the prefix": func() (*inbox.Store, error) { return inbox.NewSQLite(db, db, inbox.Options{TablePrefix: `a"`}) },
		"a digit first":         func() (*inbox.Store, error) { return inbox.NewPostgres(pool, inbox.Options{TablePrefix: "1"}) },
		"a long prefix": func() (*inbox.Store, error) {
			return inbox.NewPostgres(pool, inbox.Options{TablePrefix: strings.Repeat("a", 33)})
		},
		"a long schema": func() (*inbox.Store, error) {
			return inbox.NewPostgres(pool, inbox.Options{Schema: strings.Repeat("a", 64)})
		},
		"a NUL in the schema": func() (*inbox.Store, error) { return inbox.NewPostgres(pool, inbox.Options{Schema: "a\x00"}) },
		"a schema in a file":  func() (*inbox.Store, error) { return inbox.Open("inbox.db", inbox.Options{Schema: "app"}) },
	} {
		if s, err := open(); err == nil {
			t.Errorf("%s is accepted", name)
			_ = s.Close()
		}
	}
}
