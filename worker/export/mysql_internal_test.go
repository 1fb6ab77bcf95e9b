package export

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/hark-jobs/hark/internal/mariatest"
)

// Several servers behind one address have the same connection ids, and a restarted server begins again at 1. Only a connection of the
// server that runs the query is ended.
func TestKillSparesOtherServers(t *testing.T) {
	t.Parallel()
	src := openMy(t)
	broken, err := src.session(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	right := broken.thread
	there := func() (n int) {
		if err := src.db.QueryRow("SELECT count(*) FROM information_schema.processlist WHERE id = ?", right.id).Scan(&n); err != nil {
			t.Error(err)
		}
		return n
	}
	for what, wrong := range map[string]thread{
		"another server":                         {right.id, "another", right.started},
		"the server before it was started again": {right.id, right.server, right.started - 60},
		"the server before its clock went back":  {right.id, right.server, right.started + 60},
	} {
		if err := src.kill(t.Context(), wrong); err == nil || there() != 1 {
			t.Errorf("a connection of %s: %v, and %d connections are left", what, err, there())
		}
	}
	if err := src.kill(t.Context(), right); err != nil {
		t.Errorf("of the same server: %v", err)
	}
	if err := src.kill(t.Context(), right); err != nil {
		t.Errorf("what has ended already: %v", err)
	}
	broken.thread.server = "another"
	var left *notEndedError
	if err := broken.end(t.Context(), context.Canceled); !errors.As(err, &left) {
		t.Errorf("the end of a session that cannot be ended: %v", err)
	}
}

// A connection of an aborted export is never reused, since the KILL that ends its query would hit the next session.
func TestBrokenOffConnectionIsNotUsedAgain(t *testing.T) {
	t.Parallel()
	src := openMy(t)
	ended := errors.New("the file could not be written")
	seen := make(map[int64]bool)
	for range 20 {
		s, err := src.session(t.Context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		if seen[s.thread.id] {
			t.Fatalf("connection %d was used again after its export was broken off", s.thread.id)
		}
		seen[s.thread.id] = true
		if err := s.end(t.Context(), ended); err != nil {
			t.Error(err)
		}
	}
}

// openMy starts a server, and returns its source with at most two connections.
func openMy(t *testing.T) *source {
	t.Helper()
	c, err := Parse("hark.yaml", fmt.Appendf(nil, "databases: {my: {driver: mysql, dsn: %q, max_open: 2}}\ndatasets: {one: {database: my, query: SELECT 1}}", mariatest.Start(t)))
	if err != nil {
		t.Fatal(err)
	}
	e, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e.sources["my"]
}
