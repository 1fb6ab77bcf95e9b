//go:build unix

package pgtest

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// databases are those of the shared cluster that no test uses at the moment, all of them empty. PostgreSQL takes up to a
// second of a core to create one, and a hundredth of that to empty it.
type databases struct {
	mu   sync.Mutex
	free []string
}

// Those behind PgBouncer are kept apart: it has connections to them.
var direct, behindPooler databases

// lend returns the name of an empty database that is t's until it ends.
func (d *databases) lend(t testing.TB, s *Server) (name string) {
	t.Helper()
	d.mu.Lock()
	if last := len(d.free) - 1; last >= 0 {
		name, d.free = d.free[last], d.free[:last]
	}
	d.mu.Unlock()
	if name == "" {
		name = s.create(t)
	}
	t.Cleanup(func() {
		if err := s.empty(name); err != nil {
			t.Logf("pgtest: %s is dropped, since it is not emptied: %v", name, err)
			s.drop(name)
			return
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		d.free = append(d.free, name)
	})
	return name
}

// disconnect ends all other sessions of a database, with the locks that they hold, and waits for each to end.
const disconnect = `SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`

// clear makes a database what CREATE DATABASE makes. Schemas hold all that tests create in one.
const clear = `DO $$
DECLARE name text;
BEGIN
	FOR name IN SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' LOOP
		EXECUTE format('DROP SCHEMA %I CASCADE', name);
	END LOOP;
	CREATE SCHEMA public;
	IF current_setting('server_version_num')::int >= 150000 THEN
		ALTER SCHEMA public OWNER TO pg_database_owner;
		GRANT USAGE ON SCHEMA public TO PUBLIC;
	ELSE
		GRANT ALL ON SCHEMA public TO PUBLIC;
	END IF;
	EXECUTE format('ALTER DATABASE %I RESET ALL', current_database());
END $$`

// empty takes everything out of a database, and ends the sessions that still use it.
func (s *Server) empty(name string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.url(name))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	for _, sql := range []string{disconnect, clear} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return err
		}
	}
	return nil
}

// create makes a database.
func (s *Server) create(t testing.TB) (name string) {
	t.Helper()
	name = fmt.Sprintf("test%d", s.databases.Add(1))
	if err := s.exec("CREATE DATABASE " + name); err != nil {
		t.Fatal("pgtest: ", err)
	}
	return name
}

// drop removes a database. A test that stopped its server loses the whole folder instead.
func (s *Server) drop(name string) { _ = s.exec("DROP DATABASE IF EXISTS " + name + " WITH (FORCE)") }

// pooled makes the URL of a database that of the same one behind PgBouncer.
func pooled(dsn string) string { return strings.Replace(dsn, "port=5432", "port=6432", 1) }

// fillSoon is [fill], as soon as PgBouncer runs and has noticed which of its connections have ended.
func fillSoon(dsn string) error {
	for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if err := fill(dsn); err == nil || time.Now().After(end) {
			return err
		}
	}
}

// fill makes PgBouncer open all its connections to a database, by as many transactions at once. It would make do with
// one for those who come one after the other.
func fill(dsn string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for range poolSize {
		conn, err := pgx.Connect(ctx, dsn)
		if err != nil {
			return err
		}
		defer conn.Close(ctx)
		if _, err := conn.Exec(ctx, "BEGIN"); err != nil {
			return err
		}
		defer func() { _, _ = conn.Exec(ctx, "COMMIT") }()
	}
	return nil
}
