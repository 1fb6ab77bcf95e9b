package inbox

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hark-jobs/hark/internal/pgtest"
	"github.com/hark-jobs/hark/jobs"
)

// everyone is the audience of the broadcasts of the first stream.
var everyone = everyoneIn(0, 1)

// Every query uses an index, on both databases, with any number of rows.
func TestQueriesUseIndexes(t *testing.T) {
	user, before := []byte("ana"), []any{int64(1), int64(1000)}
	own := slices.Clip(append([]any{user}, before...))
	type test struct {
		query   string
		args    []any
		indexes []string
	}
	tests := func(d dialect) map[string]test {
		unread, read, key := "hark_notifications_unread", "hark_notifications_read", "hark_notifications_key"
		expire := test{expireSQL, []any{int64(1), int64(1000)}, []string{"hark_notifications_age"}}
		if d.partitioned { // each partition has indexes of its own
			first := partitionFor(time.Now().UnixMilli()).name
			unread, read, key = first+"_audience_epoch_seq_created_at_idx ", first+"_audience_epoch_seq_idx ", first+"_key "
			expire = test{countExpiredSQL, []any{int64(1), time.Now().UnixMilli()}, []string{first + "_created_at_idx"}}
		}
		return map[string]test{
			"list":             {d.listQuery(21), append([]any{user, everyone}, before...), []string{unread, read}},
			"list unread":      {d.listUnreadQuery(21), append([]any{user, everyone}, before...), []string{unread}},
			"unread":           {unreadSQL, []any{user, everyone}, []string{unread}},
			"by job":           {byJobSQL, []any{[]byte("a"), []byte("b"), user, []byte("a")}, []string{key}},
			"mark":             {markOwnSQL, append(own, int64(1)), []string{unread}},
			"is read":          {isReadSQL, own, []string{read}},
			"broadcast":        {broadcastSQL, append([]any{user, everyone}, before...), []string{unread}},
			"mark up to":       {markOwnUpToSQL, append(own, int64(1)), []string{unread}},
			"newest broadcast": {newestBroadcastSQL, append([]any{user, everyone}, before...), []string{unread}},
			"delete unread":    {deleteUnreadSQL, append(own, []byte{}), []string{unread}},
			"delete read":      {deleteReadSQL, append(own, []byte{}), []string{read}},
			"expire":           expire,
			"oldest broadcast": {oldestBroadcastSQL, []any{everyone}, []string{unread}},
		}
	}
	for name, url := range map[string]string{"sqlite": filepath.Join(t.TempDir(), "hark.db"), "postgres": pgtest.DSN(t)} {
		t.Run(name, func(t *testing.T) {
			s := filled(t, url)
			if plan := s.plan(t, `SELECT 1 FROM {notifications} WHERE TRUE {kept}`, nil); strings.Contains(plan, "notifications_20") && strings.Contains(plan, "Bitmap") {
				t.Errorf("an index by time fits the condition of all queries:\n%s", plan)
			}
			for name, test := range tests(s.dialect) {
				plan := s.plan(t, test.query, test.args)
				for _, index := range test.indexes {
					if !strings.Contains(plan, index) {
						t.Errorf("%s does not use %s:\n%s", name, index, plan)
					}
				}
				for _, scan := range []string{"SCAN n\n", "SCAN n ", "SCAN hark_notifications", "Seq Scan on hark_notifications"} {
					if strings.Contains(plan, scan) {
						t.Errorf("%s reads all rows:\n%s", name, plan)
					}
				}
			}
		})
	}
}

// filled returns an inbox of some thousand rows of 83 days, half of them read.
func filled(t *testing.T, url string) *Store {
	t.Helper()
	s, err := Open(url, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	var entries []Entry
	for seq := range uint64(4000) {
		to := fmt.Sprint("user-", seq%100)
		if seq%10 == 0 {
			to = jobs.Everyone
		}
		entries = append(entries, Entry{User: to, ID: jobs.NotificationID{Epoch: 1, Seq: seq + 1}, Notification: jobs.Notification{Title: "x", CreatedAt: time.Now().Add(-time.Duration(seq) * 30 * time.Minute)}})
	}
	if err := s.Append(t.Context(), entries); err != nil {
		t.Fatal(err)
	}
	if _, err := s.write.ExecContext(t.Context(), `UPDATE hark_notifications SET read_at = 1 WHERE audience <> $1 AND seq < 2000`, everyone); err != nil {
		t.Fatal(err)
	}
	if _, err := s.write.ExecContext(t.Context(), `ANALYZE`); err != nil {
		t.Fatal(err)
	}
	return s
}

// plan returns the query plan. PostgreSQL scans such a small table unless it is set to avoid that; then it scans only if no
// index fits.
func (s *Store) plan(t *testing.T, query string, args []any) (plan string) {
	t.Helper()
	err := s.update(t.Context(), func(tx transaction) error {
		explain := `EXPLAIN QUERY PLAN `
		if s.dialect.name == "postgres" {
			explain = `EXPLAIN `
			if _, err := tx.ExecContext(t.Context(), `SET LOCAL enable_seqscan = off`); err != nil {
				return err
			}
		}
		rows, err := tx.QueryContext(t.Context(), explain+query, args...)
		if err != nil {
			return err
		}
		defer rows.Close()
		columns, err := rows.Columns()
		if err != nil {
			return err
		}
		line := make([]any, len(columns))
		for i := range line {
			line[i] = new(string)
		}
		for rows.Next() {
			if err := rows.Scan(line...); err != nil {
				return err
			}
			plan += *line[len(line)-1].(*string) + "\n" // the last column has the text
		}
		return rows.Err()
	})
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return plan
}
