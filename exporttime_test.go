package hark_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hark-jobs/hark"
	"github.com/hark-jobs/hark/internal/mariatest"
	"github.com/hark-jobs/hark/internal/natstest"
	"github.com/hark-jobs/hark/internal/pgtest"
	"github.com/hark-jobs/hark/internal/polltest"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/worker"
	"github.com/hark-jobs/hark/worker/export"
)

// An export whose query takes longer than it may fails with query_timeout, and one that is too late otherwise with timeout. Neither
// is tried again: it would take as long.
func TestLateExportsAreNotTriedAgain(t *testing.T) {
	t.Parallel()
	const endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
	databases := map[string]func(t *testing.T) (dsn, query string){
		"sqlite":   func(t *testing.T) (string, string) { return filepath.Join(t.TempDir(), "a.db"), endless },
		"postgres": func(t *testing.T) (string, string) { return pgtest.DSN(t), "SELECT pg_sleep(600)" },
		"mysql":    func(t *testing.T) (string, string) { return mariatest.Start(t), "SELECT sleep(600) FROM seq_1_to_9" },
	}
	for driver, open := range databases {
		dsn, query := open(t)
		if driver == "sqlite" {
			if err := os.WriteFile(dsn, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		config := fmt.Sprintf(`
databases: {db: {driver: %s, dsn: %q}}
datasets:
  query: {database: db, query: %q, count: none}
  count: {database: db, query: SELECT 1, count: %[3]q}
`, driver, dsn, query)
		for _, dataset := range []string{"query", "count"} {
			t.Run(driver+" "+dataset, func(t *testing.T) {
				t.Parallel()
				path := filepath.Join(t.TempDir(), "hark.yaml")
				if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
					t.Fatal(err)
				}
				job := runExport(t, dataset, hark.Options{Export: hark.Export{Config: path, Timeout: 5 * time.Second}})
				wantFailed(t, job, "query_timeout")
			})
		}
	}
	t.Run("before its query", func(t *testing.T) {
		t.Parallel()
		c, err := export.Parse("hark.yaml", []byte("databases: {a: {driver: sqlite, dsn: a.db}}\ndatasets: {a: {database: a, query: SELECT 1}}"))
		if err != nil {
			t.Fatal(err)
		}
		e, err := export.Open(c)
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close()
		job := runExport(t, "a", hark.Options{Handlers: []worker.Handler{e.Handler(worker.Timeout(time.Nanosecond))}})
		wantFailed(t, job, "timeout")
	})
}

func wantFailed(t *testing.T, job jobs.Job, code string) {
	t.Helper()
	if job.State != jobs.Failed || job.Error == nil || job.Error.Code != code {
		t.Errorf("the job is %s after %d attempts, with the error %+v", job.State, job.Attempt, job.Error)
	}
}

// runExport starts hark and returns how an export of the dataset has ended, or that it is to be tried again.
func runExport(t *testing.T, dataset string, options hark.Options) jobs.Job {
	t.Helper()
	ctx := natstest.Context(t)
	options.Data, options.Listen, options.Drain = t.TempDir(), "127.0.0.1:0", time.Second
	options.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	srv, stop := start(t, options)
	defer stop()
	q := srv.Queue()
	job, err := q.Enqueue(ctx, jobs.Request{User: "ana", Kind: "export", Params: json.RawMessage(`{"dataset":"` + dataset + `"}`)})
	if err != nil {
		t.Fatal(err)
	}
	// A database that a busy machine keeps from answering is tried again, and rightly so.
	again := func() bool {
		return job.State == jobs.Retrying && job.Error != nil && job.Error.Code != "database_unavailable"
	}
	polltest.Until(t, "the job ends", func() bool {
		if job, err = q.Get(ctx, "ana", job.ID); err != nil {
			t.Fatal(err)
		}
		return job.State.Terminal() || again()
	})
	return job
}
