package secret_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hark-jobs/hark/internal/secret"
)

func TestRead(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for name, c := range map[string]struct {
		secret secret.Secret
		want   string
		err    string
	}{
		"nothing":      {},
		"a value":      {secret.Secret{Value: "s3cret"}, "s3cret", ""},
		"a file":       {secret.Secret{File: file("a", "s3cret")}, "s3cret", ""},
		"a line":       {secret.Secret{File: file("b", "s3cret\n")}, "s3cret", ""},
		"a DOS line":   {secret.Secret{File: file("c", "s3cret\r\n")}, "s3cret", ""},
		"its blanks":   {secret.Secret{File: file("d", " s3 cret \n")}, " s3 cret ", ""},
		"both":         {secret.Secret{Value: "s3cret", File: file("e", "s3cret")}, "", "both"},
		"no such file": {secret.Secret{File: filepath.Join(dir, "none")}, "", "no such file"},
		"empty":        {secret.Secret{File: file("f", "\n")}, "", "is empty"},
		"too large":    {secret.Secret{File: file("g", strings.Repeat("s3cret", 20_000))}, "", "larger"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := c.secret.Read()
			if got != c.want || (err == nil) != (c.err == "") {
				t.Fatalf("got %q, %v", got, err)
			}
			if err != nil && (!strings.Contains(err.Error(), c.err) || strings.Contains(err.Error(), "s3cret")) {
				t.Errorf("error %v", err)
			}
		})
	}
}

// A file that was replaced is read again.
func TestReadAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "password")
	s := secret.Secret{File: path}
	for _, want := range []string{"first", "second"} {
		if err := os.WriteFile(path, []byte(want+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := s.Read(); got != want || err != nil {
			t.Errorf("got %q, %v; want %q", got, err, want)
		}
	}
}
