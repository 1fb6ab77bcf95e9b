package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/hark-jobs/hark/client"
	"github.com/hark-jobs/hark/harktest"
	"github.com/hark-jobs/hark/internal/pgtest"
	"github.com/hark-jobs/hark/jobs"
	"github.com/jackc/pgx/v5"
	"github.com/xuri/excelize/v2"
)

// A dataset and an inbox on PostgreSQL: an export is asked for, told of, and opened again. Behind PgBouncer it is the same.
func TestPostgres(t *testing.T) {
	t.Parallel()
	for name, dsn := range map[string]func(testing.TB) string{"direct": pgtest.DSN, "pgbouncer": pgtest.Pooled} {
		t.Run(name, func(t *testing.T) { testPostgres(t, dsn(t), dsn(t)) })
	}
}

func testPostgres(t *testing.T, dsn, inbox string) {
	db, err := pgx.Connect(t.Context(), dsn+"&default_query_exec_mode=exec")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close(context.Background())
	_, err = db.Exec(t.Context(), `CREATE TABLE invoices (id bigint PRIMARY KEY, customer text, issued date NOT NULL, total numeric(12,2), paid boolean);
		INSERT INTO invoices SELECT i, CASE i % 3 WHEN 0 THEN '=HYPERLINK("x")' WHEN 1 THEN 'Łukasz 北京' END,
			DATE '2026-01-01' + i % 300, i * 1.25, i % 2 = 0 FROM generate_series(1, 500) AS i`)
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(t.TempDir(), "hark.yaml")
	err = os.WriteFile(config, fmt.Appendf(nil, `
databases:
  books: { driver: postgres, dsn: %q }
datasets:
  invoices:
    title: Invoices
    database: books
    query: |
      SELECT id, customer, issued, total, paid FROM invoices
      WHERE (:from IS NULL OR issued >= :from) ORDER BY id
    params:
      - { name: from, type: date }
`, dsn), 0o600)
	if err != nil {
		t.Fatal(err)
	}

	hark := harktest.Start(t, harktest.Export(config), harktest.Database(inbox))
	c, err := client.New(client.Options{URL: hark.URL, Token: hark.Token("ana")})
	if err != nil {
		t.Fatal(err)
	}
	job, err := c.Enqueue(t.Context(), client.Request{Kind: "export",
		Params: json.RawMessage(`{"dataset":"invoices","from":"2026-03-01"}`)})
	if err != nil {
		t.Fatal(err)
	}
	if job, err = c.Follow(t.Context(), job, client.FollowOptions{}); err != nil {
		t.Fatal(err)
	}
	if job.State != jobs.Succeeded {
		t.Fatalf("%+v %+v", job, job.Error)
	}
	var file bytes.Buffer
	if _, err := c.Download(t.Context(), job.ID, &file); err != nil {
		t.Fatal(err)
	}
	book, err := excelize.OpenReader(&file)
	if err != nil {
		t.Fatal(err)
	}
	defer book.Close()
	got, err := book.GetRows(book.GetSheetName(0), excelize.Options{RawCellValue: true})
	if err != nil {
		t.Fatal(err)
	}

	rows, err := db.Query(t.Context(), `SELECT id::text, coalesce(customer, ''), (issued - DATE '1899-12-30')::text,
		trim_scale(total)::text, CASE WHEN paid THEN '1' ELSE '0' END FROM invoices WHERE issued >= '2026-03-01' ORDER BY invoices.id`)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for rows.Next() {
		n++
		want := make([]string, 5)
		if err := rows.Scan(&want[0], &want[1], &want[2], &want[3], &want[4]); err != nil {
			t.Fatal(err)
		}
		if n >= len(got) || fmt.Sprint(got[n]) != fmt.Sprint(want) {
			t.Fatalf("row %d of %d is %v, not %v", n, len(got), got[min(n, len(got)-1)], want)
		}
	}
	if rows.Err() != nil || n == 0 || len(got) != n+1 {
		t.Errorf("%d rows in the file, %d in the database, %v", len(got)-1, n, rows.Err())
	}

	if page := awaitInbox(t, c, 1); page.Unread != 1 || page.Notifications[0].JobID != job.ID {
		t.Errorf("inbox %+v", page)
	}
}
