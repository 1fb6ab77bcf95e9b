package export_test

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"testing"

	"github.com/hark-jobs/hark/internal/mariatest"
	"github.com/hark-jobs/hark/internal/pgtest"
	"github.com/hark-jobs/hark/worker/export"
)

// A text that no database can store is refused before it is bound: in a config, in the params and in the identity.
func TestTextsWithANulAreRefused(t *testing.T) {
	t.Parallel()
	for _, where := range []string{"default: \"a\\0b\"", "options: [\"a\\0b\"]", "options: [{value: \"a\\0b\", title: x}]"} {
		_, err := export.Parse("hark.yaml", fmt.Appendf(nil, `databases: {a: {driver: sqlite, dsn: a.db}}
datasets: {d: {database: a, query: "SELECT :p", params: [{name: p, type: string, %s}]}}
`, where))
		var wrong *export.ConfigError
		if !errors.As(err, &wrong) {
			t.Errorf("%s: %v", where, err)
		}
	}
	if _, err := export.Parse("hark.yaml", []byte("databases: {a: {driver: postgres, dsn: host=x}}\ndatasets: {d: {database: a, query: \"SELECT 1\\0\"}}\n")); err == nil {
		t.Error("a query with a NUL is taken")
	}
	for _, db := range []struct{ driver, dsn string }{{"sqlite", filepath.Join(makeSQLite(t, "CREATE TABLE t (id INTEGER)"), "a.db")}, {"postgres", pgtest.DSN(t)}, {"mysql", mariatest.Start(t)}} {
		c, err := export.Parse("hark.yaml", fmt.Appendf(nil, `databases: {a: {driver: %s, dsn: %q}}
datasets:
  text: {database: a, query: "SELECT :p AS p", params: [{name: p, type: string}]}
  user: {database: a, query: "SELECT :user AS u"}
  claim: {database: a, query: "SELECT :claims.team AS c"}
`, db.driver, db.dsn))
		if err != nil {
			t.Fatal(err)
		}
		e := openConfig(t, c)
		for dataset, code := range map[string]string{"text": export.CodeParamInvalid, "user": export.CodeIdentityInvalid, "claim": export.CodeIdentityInvalid} {
			p := export.Params{Dataset: dataset, Identity: export.Identity{User: "a\x00b", Claims: map[string]any{"team": "\x00"}}}
			if dataset == "text" {
				p.Values = map[string]any{"p": "\x00"}
			}
			var got *export.Error
			if _, err := e.Run(t.Context(), p, io.Discard, nil); !errors.As(err, &got) || got.Code != code || got.Retryable {
				t.Errorf("%s, %s: %v", db.driver, dataset, err)
			}
		}
		// All other characters are accepted, and exported unchanged.
		const odd = "\x01\x7f\u0085\ufffe\uffff\U0010ffff\u202e"
		data, _ := run(t, e, `{"dataset":"text","format":"csv","p":"\u0001\u007f\u0085\ufffe\uffff\udbff\udfff\u202e"}`)
		if got := readCSV(t, data)[1][0]; got != odd {
			t.Errorf("%s: %q, want %q", db.driver, got, odd)
		}
	}
}
