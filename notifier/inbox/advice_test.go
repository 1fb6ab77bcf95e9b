package inbox_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hark-jobs/hark/notifier/inbox"
)

// A permanent error of a file comes with advice.
func TestAdviceOnFilesThatStayBroken(t *testing.T) {
	for name, c := range map[string]struct {
		make func(path string) error
		want string
	}{
		"no database": {func(path string) error { return os.WriteFile(path, bytes.Repeat([]byte("other"), 1000), 0o600) }, "move PATH away"},
		"damaged":     {spoil, "move PATH away"},
		"a folder":    {func(path string) error { return os.Mkdir(path, 0o700) }, "make PATH"},
	} {
		path := filepath.Join(t.TempDir(), "inbox.db")
		if name == "damaged" {
			store := open(t, path)
			add(t, store, entry("ana", 1))
			if err := store.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.make(path); err != nil {
			t.Fatal(err)
		}
		store, err := inbox.Open(path, inbox.Options{})
		if err != nil {
			t.Fatal(err)
		}
		err = store.Ping(t.Context())
		if advice := inbox.Advice(store, err); !strings.Contains(advice, strings.ReplaceAll(c.want, "PATH", path)) {
			t.Errorf("%s: %v: %q", name, err, advice)
		}
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	}
}

// spoil damages everything in a database except its header.
func spoil(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	copy(text[100:], bytes.Repeat([]byte{0xa5}, len(text)))
	return os.WriteFile(path, text, 0o600)
}
