package inbox_test

import (
	"testing"

	"github.com/hark-jobs/hark/internal/pgtest"
	"github.com/hark-jobs/hark/notifier/inbox"
)

// Directly on PostgreSQL statements are prepared once. Behind a pooler, where another client uses the session next, none is left
// in a session. The URL can override that.
func TestStatementsArePreparedUnlessThereIsAPooler(t *testing.T) {
	for name, c := range map[string]struct {
		url      string
		prepared bool
	}{
		"direct":        {pgtest.DSN(t), true},
		"direct, asked": {pgtest.DSN(t) + "&default_query_exec_mode=cache_describe", false},
		"pooled":        {pgtest.Pooled(t), false},
	} {
		s := open(t, c.url+"&pool_max_conns=1")
		add(t, s, entry("ana", 1), entry("ben", 2))
		most := 0
		for range 3 { // the number of the pooler's sessions
			if n := unread(t, s, "ana"); n != 1 {
				t.Errorf("%s: %d unread", name, n)
			}
			var n int
			if err := inbox.Writer(s).QueryRowContext(t.Context(), `SELECT count(*) FROM pg_prepared_statements WHERE name <> ''`).Scan(&n); err != nil {
				t.Fatal(err)
			}
			most = max(most, n)
		}
		if (most > 1) != c.prepared { // this query may be a prepared one
			t.Errorf("%s: %d prepared statements", name, most)
		}
	}
}
