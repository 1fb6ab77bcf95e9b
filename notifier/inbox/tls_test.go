package inbox_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hark-jobs/hark/internal/pgtest"
	"github.com/hark-jobs/hark/internal/tlstest"
	"github.com/hark-jobs/hark/notifier/inbox"
)

// The URL sets TLS to PostgreSQL: with the right CA the connection succeeds, with another one or without TLS it fails.
func TestPostgresTLS(t *testing.T) {
	t.Parallel()
	files, strange := tlstest.New(t), tlstest.New(t)
	pg := pgtest.StartTLS(t, files)
	for query, want := range map[string]string{
		"sslmode=verify-full&sslrootcert=" + files.CA: "",
		"sslmode=require": "",
		"sslmode=verify-full&sslrootcert=" + strange.CA: "certificate",
		"sslmode=disable": "no encryption",
	} {
		store, err := inbox.Open(fmt.Sprintf("postgres://postgres@%s/postgres?%s", pg.Addr(), query), inbox.Options{})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		err = store.Ping(ctx)
		cancel()
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", query, err, want)
		}
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	}
}
