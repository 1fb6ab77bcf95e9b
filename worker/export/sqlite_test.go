package export_test

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hark-jobs/hark/worker/export"
)

// makeSQLite creates the database a.db in a new folder.
func makeSQLite(t testing.TB, statements string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	db, err := sql.Open("sqlite", filepath.Join(dir, "a.db"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(statements); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

// In SQLite any column can have blobs.
func TestSQLiteBlobsAreBytesWhereverTheyComeFrom(t *testing.T) {
	t.Parallel()
	dir := makeSQLite(t, `CREATE TABLE t (declared BLOB, loose TEXT, bare, n NUMERIC, d DATE);
		INSERT INTO t VALUES (x'00ff10', x'00ff10', x'00ff10', x'00ff10', x'00ff10');
		CREATE VIEW v AS SELECT bare || '' AS joined, bare AS viewed FROM t`)
	e := open(t, dir, `
databases: {a: {driver: sqlite, dsn: a.db}}
datasets:
  blobs:
    database: a
    query: |
      SELECT x'00ff10' AS literal, CAST('a' || char(1) AS BLOB) AS made, zeroblob(2) AS zero, (SELECT bare FROM t) AS sub, coalesce(NULL, declared) AS chosen,
        declared, loose, bare, n, d, viewed, x'616263' AS printable, x'' AS empty, x'00ff10' AS money, x'00ff10' AS day, x'00ff10' AS txt, max(bare) AS grouped
      FROM t, v
    columns: {money: {format: money}, day: {format: date}, txt: {format: text}}
`)
	const b = "0x00ff10"
	want := []string{b, "0x6101", "0x0000", b, b, b, b, b, b, b, b, "abc", "", b, b, b, b}
	data, _ := run(t, e, `{"dataset":"blobs","format":"csv"}`)
	if got := readCSV(t, data)[1]; !slices.Equal(got, want) {
		t.Errorf("CSV: %q,\nwant %q", got, want)
	}
	data, _ = run(t, e, `{"dataset":"blobs"}`)
	rows, err := openBook(t, data).GetRows("Blobs")
	if err != nil || !slices.Equal(rows[1], want) {
		t.Errorf("xlsx: %q (%v),\nwant %q", rows[1], err, want)
	}
}

// Not even a query that takes off query_only can write.
func TestSQLiteIsOpenedReadOnly(t *testing.T) {
	t.Parallel()
	dir := makeSQLite(t, `CREATE TABLE t (id INTEGER); INSERT INTO t VALUES (1)`)
	e := open(t, dir, `
databases: {a: {driver: sqlite, dsn: a.db, max_open: 1}}
datasets:
  open: {database: a, query: PRAGMA query_only(0), count: none}
  counts: {database: a, query: SELECT id FROM t, count: INSERT INTO t VALUES (2) RETURNING id}
  writes: {database: a, query: INSERT INTO t VALUES (3) RETURNING id, count: none}
`)
	before, err := os.ReadFile(filepath.Join(dir, "a.db"))
	if err != nil {
		t.Fatal(err)
	}
	for _, dataset := range []string{"counts", "writes"} {
		run(t, e, `{"dataset":"open","format":"csv"}`)
		var got *export.Error
		if _, err := e.Run(t.Context(), params(t, `{"dataset":"`+dataset+`"}`), io.Discard, nil); !errors.As(err, &got) || got.Code != export.CodeQueryFailed {
			t.Errorf("%s: %v", dataset, err)
		}
	}
	if after, err := os.ReadFile(filepath.Join(dir, "a.db")); err != nil || !slices.Equal(before, after) {
		t.Errorf("the file was changed (%v)", err)
	}
	for _, mode := range []string{"rw", "rwc", "memory"} {
		_, err := export.Parse("hark.yaml", []byte(`{databases: {a: {driver: sqlite, dsn: "a.db?mode=`+mode+`"}}, datasets: {d: {database: a, query: SELECT 1}}}`))
		if err == nil || !strings.Contains(err.Error(), "hark always opens SQLite with mode=ro") {
			t.Errorf("mode=%s: %v", mode, err)
		}
	}
	run(t, open(t, dir, `{databases: {a: {driver: sqlite, dsn: "file:a.db?mode=ro"}}, datasets: {d: {database: a, query: SELECT id FROM t}}}`), `{"dataset":"d"}`)
}

const walConfig = `{databases: {a: {driver: sqlite, dsn: a.db}}, datasets: {d: {database: a, query: SELECT id FROM t ORDER BY id}}}`

// An export reads what another process has written to its WAL, while that runs and after it was killed.
func TestSQLiteReadsTheWALOfAnotherProcess(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	writer := otherProcess(t, filepath.Join(dir, "a.db"), `PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0; CREATE TABLE t (id INTEGER); INSERT INTO t VALUES (1), (2), (3)`)
	e := open(t, dir, walConfig)
	for _, state := range []string{"that runs", "that was killed"} {
		if info, err := os.Stat(filepath.Join(dir, "a.db-wal")); err != nil || info.Size() == 0 {
			t.Fatalf("no WAL of a process %s: %v", state, err)
		}
		if _, info := run(t, e, `{"dataset":"d"}`); info.Rows != 3 {
			t.Errorf("%d rows of a process %s", info.Rows, state)
		}
		writer()
	}
	if err := os.Remove(filepath.Join(dir, "a.db-shm")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	if _, info := run(t, open(t, dir, walConfig), `{"dataset":"d"}`); info.Rows != 3 {
		t.Errorf("%d rows after a restart", info.Rows)
	}
}

// A process that was killed during a write leaves a journal, and only a process that may write can roll it back.
func TestSQLiteThatNeedsRepairIsTriedAgain(t *testing.T) {
	t.Parallel()
	dir := makeSQLite(t, `CREATE TABLE t (id INTEGER); INSERT INTO t VALUES (1)`)
	kill := otherProcess(t, filepath.Join(dir, "a.db"), `PRAGMA cache_size = 2; BEGIN; `+
		`INSERT INTO t WITH RECURSIVE n(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < 20000) SELECT i FROM n`)
	kill()
	e := open(t, dir, walConfig)
	var got *export.Error
	_, err := e.Run(t.Context(), params(t, `{"dataset":"d"}`), io.Discard, nil)
	if !errors.As(err, &got) || got.Code != export.CodeDatabaseUnavailable || !got.Retryable || !strings.Contains(got.Message, "middle of a write") {
		t.Fatalf("%v", err)
	}
	otherProcess(t, filepath.Join(dir, "a.db"), `SELECT count(*) FROM t`)()
	if _, info := run(t, e, `{"dataset":"d"}`); info.Rows != 1 {
		t.Errorf("%d rows after the repair", info.Rows)
	}
}

// otherProcess runs statements on a SQLite file in a process of its own, which then waits until it is killed.
func otherProcess(t *testing.T, path, statements string) (kill func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestOtherProcess$")
	cmd.Env = append(os.Environ(), "HARK_TEST_SQLITE="+path, "HARK_TEST_STATEMENTS="+statements)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill = func() {
		cancel()
		_ = cmd.Wait() // it was killed
		_ = stdin.Close()
	}
	t.Cleanup(kill)
	if line, err := bufio.NewReader(stdout).ReadString('\n'); err != nil || line != "done\n" {
		t.Fatalf("the other process: %q, %v", line, err)
	}
	return kill
}

// TestOtherProcess is what otherProcess starts. By itself it does nothing.
func TestOtherProcess(t *testing.T) {
	path := os.Getenv("HARK_TEST_SQLITE")
	if path == "" {
		return
	}
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	if _, err := db.Exec(os.Getenv("HARK_TEST_STATEMENTS")); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stdout.WriteString("done\n"); err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, os.Stdin) // until the test ends
}
