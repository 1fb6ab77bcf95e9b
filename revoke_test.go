package hark_test

import (
	"bufio"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hark-jobs/hark"
)

// A user who is revoked at one notifier loses the streams that another one has, and is refused there.
func TestRevokedOnEveryNotifier(t *testing.T) {
	begin := func(change func(*hark.Options)) *hark.Server {
		t.Helper()
		o := hark.Options{
			Only: hark.Notifier, Data: t.TempDir(), Listen: "127.0.0.1:0", Drain: time.Second, Logger: slog.New(slog.DiscardHandler),
			JWTSecret: hark.Secret{Value: "0123456789abcdef0123456789abcdef"},
		}
		change(&o)
		srv, _ := start(t, o)
		return srv
	}
	ctx := t.Context()
	first := begin(func(o *hark.Options) { o.NATSListen = "127.0.0.1:0" })
	second := begin(func(o *hark.Options) {
		o.NATSServers, o.Database = hark.NATSServers{URL: first.NATSURL()}, hark.Secret{Value: filepath.Join(o.Data, "inbox.db")}
	})
	issuer, err := first.Issuer()
	if err != nil {
		t.Fatal(err)
	}
	token := func(user string, scope ...string) string {
		t.Helper()
		text, _, err := issuer.Issue(user, scope, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	call := func(method, url, body, token string) *http.Response {
		t.Helper()
		req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		req.Close = true
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { res.Body.Close() })
		return res
	}
	ana := token("ana")
	var streams []*http.Response
	for _, a := range []*hark.Server{first, second, second} {
		streams = append(streams, call("GET", a.URL()+"/v1/stream", "", ana))
	}
	for _, s := range streams {
		if _, err := bufio.NewReader(s.Body).Peek(1); err != nil || s.StatusCode != 200 {
			t.Fatal(s.Status, err)
		}
	}
	if res := call("POST", first.URL()+"/v1/revocations", `{"user":"ana"}`, token("root", "admin")); res.StatusCode != 201 {
		t.Fatal(res.Status)
	}
	for i, s := range streams {
		rest, err := io.ReadAll(s.Body) // to its end
		if err != nil || !strings.Contains(string(rest), "token_revoked") {
			t.Errorf("stream %d: %v %s", i, err, rest)
		}
	}
	for _, a := range []*hark.Server{first, second} {
		res := call("GET", a.URL()+"/v1/jobs", "", ana)
		if body, _ := io.ReadAll(res.Body); res.StatusCode != 401 || !strings.Contains(string(body), "token_revoked") {
			t.Errorf("%s: %s", res.Status, body)
		}
	}
}
