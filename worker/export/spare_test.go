package export_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/hark-jobs/hark/internal/mariatest"
)

// When an export ends early in any way, the exports of others, with connections from the same pool, continue.
func TestFailedExportsSpareOthers(t *testing.T) {
	t.Parallel()
	e := open(t, t.TempDir(), fmt.Sprintf(`
databases: {my: {driver: mysql, dsn: %q, max_open: 1}}
datasets:
  good: {database: my, query: SELECT sleep(0.01), count: none}
  column: {database: my, query: SELECT 1 AS a, columns: {b: {title: B}}}
  refused: {database: my, query: SELECT nothing}
  rows: {database: my, query: SELECT seq FROM seq_1_to_20000}
`, mariatest.Start(t)))
	full := errors.New("disk full")
	ends := map[string]func(round int) error{
		"a column that the query lacks": func(int) error {
			_, err := e.Run(t.Context(), params(t, `{"dataset":"column"}`), io.Discard, nil)
			return err
		},
		"a query that is refused": func(int) error {
			_, err := e.Run(t.Context(), params(t, `{"dataset":"refused"}`), io.Discard, nil)
			return err
		},
		"a write that fails": func(int) error {
			_, err := e.Run(t.Context(), params(t, `{"dataset":"rows","format":"csv"}`), &stopWriter{stop: func() {}, err: full}, nil)
			return err
		},
		"a cancel": func(round int) error {
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(round)*time.Millisecond/20)
			defer cancel()
			_, err := e.Run(ctx, params(t, `{"dataset":"rows","format":"csv"}`), &stopWriter{stop: cancel, err: full}, nil)
			return err
		},
	}
	var others sync.WaitGroup
	done := make(chan struct{})
	for range 2 {
		others.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-done:
					return
				default:
				}
				if _, err := e.Run(t.Context(), params(t, `{"dataset":"good"}`), io.Discard, nil); err != nil {
					t.Errorf("export %d of another user: %v", n, err)
				}
			}
		})
	}
	for how, end := range ends {
		for round := range 40 {
			if err := end(round); err == nil {
				t.Errorf("%s: the export has not failed", how)
			}
		}
	}
	close(done)
	others.Wait()
}
