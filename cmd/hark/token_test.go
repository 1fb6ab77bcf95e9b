package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hark-jobs/hark/notifier/auth"
)

const testSecret = "0123456789abcdef0123456789abcdef"

// The token of hark token is one that a server with the same flags accepts, whether given as flags or as variables.
func TestTokenHasWhatTheServerWants(t *testing.T) {
	freshAccount(t)
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte(testSecret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	v, err := auth.New(auth.Options{
		Secret: []byte(testSecret), Issuer: "https://id.example.com", Audience: []string{"hark"}, UserClaim: "email", Scopes: map[string]string{"hark:admin": "admin"},
	})
	if err != nil {
		t.Fatal(err)
	}
	ask := []string{"token", "--user", "ana", "--scope", "admin", "--jwt-secret-file", file}
	good := func(what string, args ...string) {
		t.Helper()
		code, out, errs := harkCommand(t.Context(), append(ask, args...)...)
		id, err := v.Verify(t.Context(), strings.TrimSpace(out))
		if code != 0 || err != nil || id.User != "ana" || !id.Has(auth.ScopeAdmin) || id.ID == "" {
			t.Errorf("%s: %d %s; %+v, %v", what, code, errs, id, err)
		}
	}
	good("flags", "--jwt-issuer", "https://id.example.com", "--jwt-audience", "hark", "--jwt-audience", "other", "--user-claim", "email", "--scope-map", "hark:admin=admin")
	t.Setenv("HARK_JWT_ISSUER", "https://id.example.com")
	t.Setenv("HARK_JWT_AUDIENCE", "hark,other")
	t.Setenv("HARK_USER_CLAIM", "email")
	t.Setenv("HARK_SCOPE_MAP", "hark:admin=admin,hark:notify=notify")
	good("variables")
	code, _, errs := harkCommand(t.Context(), append(ask, "--scope-map", "hark:admin=root")...)
	if code == 0 || !strings.Contains(errs, "root") {
		t.Errorf("a scope that hark has not: %d %s", code, errs)
	}
}

func TestRevokeCommand(t *testing.T) {
	freshAccount(t)
	f := newFake(t, []byte(testSecret))
	for _, c := range []struct {
		args      []string
		sent, out string
	}{
		{[]string{"--user", "ana"}, `{"user":"ana"}`, "Revoked: the tokens of ana that were issued up to 2026-01-31T15:04:05Z\n"},
		{[]string{"--jti", "j 1"}, `{"jti":"j 1"}`, "Revoked: the token with the jti j 1\n"},
		{[]string{"--user", "a&b", "--lift"}, `user=a%26b`, "No longer revoked: a&b\n"},
		{[]string{"--jti", "j", "--lift"}, `jti=j`, "No longer revoked: j\n"},
	} {
		code, out, errs := harkCommand(t.Context(), append([]string{"revoke", "--url", f.server.URL, "--jwt-secret", testSecret}, c.args...)...)
		if code != 0 || out != c.out || f.params != c.sent || f.scope != "admin" {
			t.Errorf("%v: %d %q %s; sent %s as %s", c.args, code, out, errs, f.params, f.scope)
		}
	}
	for _, args := range [][]string{{}, {"--user", "a", "--jti", "b"}} {
		if code, _, errs := harkCommand(t.Context(), append([]string{"revoke", "--url", f.server.URL}, args...)...); code != exitUsage {
			t.Errorf("%v: %d %s", args, code, errs)
		}
	}
}
