package auth_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hark-jobs/hark/notifier/auth"
)

func TestIssue(t *testing.T) {
	issuer, err := auth.NewIssuer(auth.IssuerOptions{Secret: secret, Issuer: "hark", Audience: "hark"})
	if err != nil {
		t.Fatal(err)
	}
	token, issued, err := issuer.Issue("ana", []string{"notify", "admin"}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	v := newVerifier(t, func(o *auth.Options) { o.Issuer, o.Audience = "hark", []string{"hark"} })
	id, err := v.Verify(t.Context(), token)
	if err != nil {
		t.Fatal(err)
	}
	if id.User != "ana" || !id.Has("notify") || !id.Has("admin") || !id.ExpiresAt.Equal(issued.ExpiresAt) {
		t.Errorf("verified %+v, issued %+v", id, issued)
	}
	if left := time.Until(id.ExpiresAt); left < 59*time.Minute || left > time.Hour {
		t.Errorf("valid for %v, want an hour", left)
	}
}

func TestIssueRefuses(t *testing.T) {
	if _, err := auth.NewIssuer(auth.IssuerOptions{Secret: []byte("short")}); err == nil {
		t.Error("accepted a short secret")
	}
	issuer, err := auth.NewIssuer(auth.IssuerOptions{Secret: secret})
	if err != nil {
		t.Fatal(err)
	}
	for _, user := range []string{"", "_all", "\xff", strings.Repeat("u", 1201)} {
		if _, _, err := issuer.Issue(user, nil, time.Hour); err == nil {
			t.Errorf("issued a token for %.20q", user)
		}
	}
	for _, ttl := range []time.Duration{0, -time.Hour, time.Millisecond} {
		if _, _, err := issuer.Issue("ana", nil, ttl); err == nil {
			t.Errorf("issued a token for %v", ttl)
		}
	}
}

func TestLoadOrCreateSecret(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "data", "secret")
	if _, err := auth.LoadSecret(path); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("LoadSecret of nothing: %v", err)
	}
	got := make([][]byte, 16)
	var wg sync.WaitGroup
	for i := range got {
		wg.Go(func() {
			var err error
			if got[i], err = auth.LoadOrCreateSecret(path); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, s := range got {
		if !bytes.Equal(s, got[0]) || len(s) < auth.MinSecretBytes {
			t.Fatalf("sixteen at once got different or short secrets: %d and %d bytes", len(s), len(got[0]))
		}
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, want 0600", info.Mode())
	}
	files, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(files) != 1 {
		t.Errorf("left behind: %v, %v", files, err)
	}
}

func TestLoadOrCreateSecretKeepsWhatIsThere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte("short\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := auth.LoadOrCreateSecret(path); err == nil || strings.Contains(err.Error(), "short\n") {
		t.Errorf("a damaged secret: %v", err)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "short\n" {
		t.Errorf("the file became %q, %v", text, err)
	}
}
