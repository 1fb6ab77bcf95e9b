package export_test

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hark-jobs/hark/worker/export"
)

// sampleShop creates the sample shop once for all tests, since that is slow with the race detector. Exports that start before it exists
// create it: one does, the others wait.
func sampleShop(t *testing.T) (dir string, e *export.Exporter) {
	t.Helper()
	dir = t.TempDir()
	c, err := export.SampleConfig(dir)
	if err != nil {
		t.Fatal(err)
	}
	e = openConfig(t, c)
	start := time.Now()
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			var messages []string
			info, err := e.Run(t.Context(), export.Params{Dataset: "products"}, io.Discard, func(_, _ int64, message string) { messages = append(messages, message) })
			if err != nil || info.Rows != 300 {
				t.Errorf("products: %+v, %v", info, err)
			}
			if len(messages) == 0 || messages[0] != "Preparing the sample shop" {
				t.Errorf("got %q", messages)
			}
		})
	}
	wg.Wait()
	t.Logf("made in %v", time.Since(start))
	if err := e.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 || left[0].Name() != "shop.db" {
		t.Errorf("the folder holds %v (%v), want shop.db alone", left, err)
	}
	return dir, e
}

func TestSampleShop(t *testing.T) {
	t.Parallel()
	dir, e := sampleShop(t)
	db, err := sql.Open("sqlite", filepath.Join(dir, "shop.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	t.Run("is always the same", func(t *testing.T) { checkShop(t, db) })
	t.Run("can be exported", func(t *testing.T) { exportShop(t, db, e) })
}

func checkShop(t *testing.T, db *sql.DB) {
	sum := sha256.New()
	for _, table := range []struct {
		name, order string
		rows        int
	}{
		{"customers", "id", 2_000}, {"products", "id", 300}, {"orders", "id", shopOrders}, {"order_lines", "order_id, line", 3 * shopOrders},
	} {
		rows, err := db.Query("SELECT * FROM " + table.name + " ORDER BY " + table.order)
		if err != nil {
			t.Fatal(err)
		}
		columns, err := rows.Columns()
		if err != nil {
			t.Fatal(err)
		}
		values, dest := make([]any, len(columns)), make([]any, len(columns))
		for i := range dest {
			dest[i] = &values[i]
		}
		n := 0
		for ; rows.Next(); n++ {
			if err := rows.Scan(dest...); err != nil {
				t.Fatal(err)
			}
			fmt.Fprintln(sum, values...)
		}
		if err := rows.Err(); err != nil || n != table.rows {
			t.Fatalf("%s has %d rows (%v), want %d", table.name, n, err, table.rows)
		}
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != shopSum {
		t.Errorf("the checksum of the sample shop is %s, want %s", got, shopSum)
	}
}

func TestCancelledSampleShopLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := export.SampleShop(ctx, dir); err == nil {
		t.Fatal("a cancelled SampleShop succeeded")
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("it left %v", left)
	}
}

func exportShop(t *testing.T, db *sql.DB, e *export.Exporter) {
	for _, test := range []struct{ params, count string }{
		{`{"dataset":"orders"}`, fmt.Sprint("SELECT ", shopOrders)},
		{`{"dataset":"orders","from":"2026-01-01"}`, `SELECT count(*) FROM orders WHERE ordered_on >= '2026-01-01'`},
		{`{"dataset":"orders","from":"2025-01-01","to":"2025-12-31","status":"shipped"}`, `SELECT count(*) FROM orders WHERE ordered_on LIKE '2025-%' AND status = 'shipped'`},
		{`{"dataset":"order_lines","to":"2024-01-31"}`, `SELECT count(*) FROM order_lines l JOIN orders o ON o.id = l.order_id WHERE ordered_on <= '2024-01-31'`},
		{`{"dataset":"order_lines"}`, fmt.Sprint("SELECT ", 3*shopOrders)},
		{`{"dataset":"customers","country":"PL"}`, `SELECT count(*) FROM customers WHERE country = 'PL'`},
		{`{"dataset":"customers"}`, `SELECT 2000`},
		{`{"dataset":"products"}`, `SELECT 300`},
	} {
		var want, total int64
		if err := db.QueryRow(test.count).Scan(&want); err != nil {
			t.Fatal(err)
		}
		p := params(t, test.params)
		p.Format = export.CSV
		info, err := e.Run(t.Context(), p, io.Discard, func(_, of int64, message string) {
			if message == "Running the query" {
				total = of
			}
		})
		if err != nil || info.Rows != want || total != want || want == 0 {
			t.Errorf("%s: %+v of %d, %v; want %d rows", test.params, info, total, err, want)
		}
	}

	data, _ := run(t, e, `{"dataset":"orders","from":"2026-12-31"}`)
	rows, err := openBook(t, data).GetRows("Orders")
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(rows[0]); got != "[Order Ordered on Customer Country Status Items Total Shipped on Note]" {
		t.Errorf("the header is %s", got)
	}
	if last := rows[len(rows)-1]; last[0] != fmt.Sprint(shopOrders) || last[1] != "2026-12-31" || !strings.Contains(last[6], ".") {
		t.Errorf("the last order is %q", last)
	}
}

func TestPrepareIsRetried(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "taken")
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := export.SampleConfig(dir)
	if err != nil {
		t.Fatal(err)
	}
	e := openConfig(t, c)
	var got *export.Error
	if _, err := e.Run(t.Context(), export.Params{Dataset: "products"}, io.Discard, nil); !errors.As(err, &got) ||
		got.Code != export.CodeDatabaseUnavailable || !got.Retryable {
		t.Errorf("with a file in the place of the folder: %v", err)
	}
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	// This time only the empty database is wrong.
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "shop.db"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Run(t.Context(), export.Params{Dataset: "products"}, io.Discard, nil); !errors.As(err, &got) || got.Code != export.CodeQueryFailed {
		t.Errorf("with an empty database: %v", err)
	}
}
