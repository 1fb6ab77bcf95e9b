//go:build unix

package pgtest_test

import (
	"bufio"
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"github.com/hark-jobs/hark/internal/pgtest"
	"github.com/hark-jobs/hark/internal/polltest"
)

func TestMain(m *testing.M) {
	if os.Getenv("PGTEST_CHILD") == "" {
		goleak.VerifyTestMain(m)
	}
	os.Exit(m.Run())
}

func query(t *testing.T, dsn, sql string) (answer string, err error) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		return "", err
	}
	defer conn.Close(t.Context())
	err = conn.QueryRow(t.Context(), sql, pgx.QueryExecModeExec).Scan(&answer)
	return answer, err
}

func TestEachDSNIsAnEmptyDatabase(t *testing.T) {
	a, b := pgtest.DSN(t), pgtest.DSN(t)
	if a == b {
		t.Fatalf("both tests share %s", a)
	}
	if _, err := query(t, a, "CREATE TABLE t (c text)"); err != pgx.ErrNoRows {
		t.Fatal(err)
	}
	for dsn, want := range map[string]string{a: "1", b: "0"} {
		n, err := query(t, dsn, "SELECT count(*)::text FROM pg_tables WHERE schemaname = 'public'")
		if err != nil || n != want {
			t.Errorf("%s has %s tables, error %v; want %s", dsn, n, err, want)
		}
	}
}

// A database that a test has used is empty for the next one, whatever it has left there: a session with a lock, too.
func TestDatabaseIsEmptyAgain(t *testing.T) {
	for name, dsn := range map[string]func(testing.TB) string{"direct": pgtest.DSN, "pgbouncer": pgtest.Pooled} {
		seen := map[string]bool{}
		for range 3 {
			t.Run(name, func(t *testing.T) {
				url := dsn(t)
				seen[url] = true
				got, err := query(t, url, `SELECT concat_ws(' ', (SELECT string_agg(nspname, ',') FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'),
					(SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace), (SELECT count(*) FROM pg_proc WHERE pronamespace = 'public'::regnamespace),
					(SELECT count(*) FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase WHERE d.datname = current_database()),
					has_schema_privilege('pg_monitor', 'public', 'USAGE'))`)
				if want := "public 0 0 0 t"; err != nil || got != want {
					t.Fatalf("got %q, %v, want %q", got, err, want)
				}
				for _, sql := range []string{
					"CREATE TABLE t (c text)", `CREATE SCHEMA "a b"`, `CREATE VIEW "a b".v AS SELECT * FROM t`, "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
					"DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET work_mem = 1024', current_database()); END $$", "DROP SCHEMA IF EXISTS none",
				} {
					if _, err := query(t, url, sql); err != pgx.ErrNoRows {
						t.Fatal(err)
					}
				}
				left, err := pgx.Connect(context.Background(), url)
				if err == nil {
					_, err = left.Exec(t.Context(), "BEGIN")
				}
				if err == nil {
					_, err = left.Exec(t.Context(), "LOCK TABLE t")
				}
				if err != nil {
					t.Fatal(err)
				}
			})
		}
		if len(seen) != 1 {
			t.Errorf("%s: %d databases for one test after the other", name, len(seen))
		}
	}
}

func TestStopKeepsTheData(t *testing.T) {
	s := pgtest.Start(t)
	dsn := s.DSN(t)
	if _, err := query(t, dsn, "CREATE TABLE t (c text)"); err != pgx.ErrNoRows {
		t.Fatal(err)
	}
	s.Stop(t)
	if _, err := query(t, dsn, "SELECT 'up'"); err == nil {
		t.Fatal("the server answers after Stop")
	}
	s.Start(t)
	n, err := query(t, dsn, "SELECT count(*)::text FROM t")
	if err != nil || n != "0" {
		t.Fatalf("after Stop and Start: %q, %v; want the table with no rows", n, err)
	}
}

// Behind PgBouncer a transaction gets another connection than the one before, and what a session has set is not there.
func TestPooledTransactionsChangeConnections(t *testing.T) {
	conn, err := pgx.Connect(t.Context(), pgtest.Pooled(t))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	servers := map[int]bool{}
	for range 12 {
		var pid int
		if err := conn.QueryRow(t.Context(), "SELECT pg_backend_pid()", pgx.QueryExecModeExec).Scan(&pid); err != nil {
			t.Fatal(err)
		}
		servers[pid] = true
	}
	if len(servers) != 3 {
		t.Errorf("%d connections to the server, not 3", len(servers))
	}
}

// runs reports whether the process lives. Where nobody reaps orphans, as in many containers, a dead one
// stays in the process table as a zombie.
func runs(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	state, err := exec.Command("ps", "-o", "stat=", "-p", strconv.Itoa(pid)).Output()
	return err != nil || !strings.HasPrefix(string(state), "Z")
}

// A test process that is killed leaves neither a server nor a folder behind.
func TestKilledProcessLeavesNothing(t *testing.T) {
	if os.Getenv("PGTEST_CHILD") != "" {
		os.Stdout.WriteString("\nDSN " + pgtest.DSN(t) + "\n")
		time.Sleep(time.Hour) // until killed; Go ends a process in which nothing runs and no timer waits
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestKilledProcessLeavesNothing$", "-test.v")
	cmd.Env = append(os.Environ(), "PGTEST_CHILD=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	dir := ""
	for lines := bufio.NewScanner(out); dir == "" && lines.Scan(); {
		if dsn, ok := strings.CutPrefix(lines.Text(), "DSN "); ok {
			u, err := url.Parse(dsn)
			if err != nil {
				t.Fatal(err)
			}
			dir = u.Query().Get("host")
		}
	}
	pidFile, err := os.ReadFile(filepath.Join(dir, "data", "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	line, _, _ := strings.Cut(string(pidFile), "\n")
	pid, err := strconv.Atoi(line)
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil || err.Error() != "signal: killed" {
		t.Fatalf("the process ended by itself: %v", err)
	}

	polltest.Nil(t, "the folder and the process are gone", func() error {
		if _, err := os.Stat(dir); !os.IsNotExist(err) || runs(pid) {
			return fmt.Errorf("%s is there (%v) or process %d runs", dir, err, pid)
		}
		return nil
	})
}
