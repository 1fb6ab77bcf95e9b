package e2e_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hark-jobs/hark/harktest"
	"github.com/hark-jobs/hark/internal/check"
	"github.com/hark-jobs/hark/internal/harkproc"
	"github.com/hark-jobs/hark/internal/tlstest"
	"github.com/hark-jobs/hark/notifier/auth"
)

// findings are the codes of what a check found: what is bad, and all else.
func findings(t *testing.T, o check.Options) (bad, other []string) {
	t.Helper()
	o.First = 2 * time.Second
	err := check.Run(t.Context(), o, func(f check.Finding) {
		t.Logf("%d %s: %s", f.Level, f.Code, f.Text)
		if !strings.HasSuffix(f.Text, ".") || f.Fix != "" && !strings.HasSuffix(f.Fix, ".") {
			t.Errorf("%q, %q: no sentences", f.Text, f.Fix)
		}
		if f.Level == check.Bad {
			bad = append(bad, f.Code)
		} else {
			other = append(other, f.Code)
		}
	})
	if err != nil {
		t.Error(err)
	}
	return bad, other
}

// What stands between and does harm is named, and what does none is not.
func TestCheckNamesWhatStandsBetween(t *testing.T) {
	t.Parallel()
	hark := harktest.Start(t, harktest.Secret(secret))
	limited := harktest.Start(t, harktest.Secret(secret), harktest.Connections(0, 6))
	behind := func(directives string) func(*testing.T) string {
		return func(t *testing.T) string {
			return nginx(t, "location / {\nproxy_pass http://"+upstream(hark.URL)+";\nproxy_http_version 1.1;\nproxy_set_header Host $http_host;\n"+directives+"\n}")
		}
	}
	at := func(url string) func(*testing.T) string { return func(*testing.T) string { return url } }
	for name, c := range map[string]struct {
		url  func(*testing.T) string
		bad  []string
		also string // among the others
	}{
		"nothing":        {at(hark.URL), nil, "lasts"},
		"nginx":          {behind(""), nil, "lasts"},
		"nginx, old":     {func(t *testing.T) string { return nginx(t, "location / { proxy_pass http://"+upstream(hark.URL)+"; }") }, nil, "many"},
		"another host":   {func(t *testing.T) string { return nginx(t, "location / { proxy_pass http://"+upstream(hark.URL)+"; }") }, nil, "changes_host"},
		"caddy":          {func(t *testing.T) string { return caddy(t, "encode gzip\nreverse_proxy "+upstream(hark.URL)) }, nil, "at_once"},
		"buffers":        {behind("proxy_ignore_headers X-Accel-Buffering;"), []string{"buffers"}, "poll"},
		"compresses":     {behind("proxy_hide_header Content-Encoding;\ngzip on;\ngzip_types *;\ngzip_proxied any;"), []string{"compresses"}, "at_once"},
		"cuts":           {behind("proxy_read_timeout 2s;"), []string{"cuts"}, "at_once"},
		"no login":       {behind(`proxy_set_header Authorization "";`), []string{"strips_authorization"}, ""},
		"no id":          {behind(`proxy_set_header Last-Event-ID "";`), []string{"strips_last_event_id"}, "lasts"},
		"no headers":     {behind("proxy_hide_header Cache-Control;"), []string{"strips_headers"}, "lasts"},
		"few":            {at(limited.URL), []string{"limits_connections"}, "lasts"},
		"another server": {at(foreign(t)), []string{"not_hark"}, ""},
		"no DELETE":      {behind("limit_except GET { deny all; }"), []string{"refuses_delete"}, "lasts"},
		"no server":      {at("http://" + harkproc.FreeAddr(t)), []string{"unreachable"}, ""},
		"a wrong path":   {at(hark.URL + "/below"), []string{"not_found"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			watch := time.Second
			if name == "cuts" {
				watch = time.Minute // it ends earlier
			}
			bad, other := findings(t, check.Options{URL: c.url(t), Token: hark.Token("check"), Watch: watch})
			if !slices.Equal(bad, c.bad) || c.also != "" && !slices.Contains(other, c.also) {
				t.Errorf("%v are bad, want %v; besides there are %v", bad, c.bad, other)
			}
		})
	}
}

// The command prints what was found and how to fix it, and its exit code says whether users would notice.
func TestCheckCommand(t *testing.T) {
	t.Parallel()
	hark := harktest.Start(t, harktest.Secret(secret))
	run := func(url string) (code int, out string) {
		t.Helper()
		cmd := exec.Command(harkproc.Binary(t), "check", url, "--watch", "1s", "--token", hark.Token("ana"))
		text, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		return cmd.ProcessState.ExitCode(), string(text)
	}
	if code, out := run(hark.URL + "/"); code != 0 || !strings.Contains(out, "ok    Events arrive without delay.") || strings.Contains(out, "BAD") {
		t.Errorf("%d %s", code, out)
	}
	stripped := nginx(t, "location / {\nproxy_pass http://"+upstream(hark.URL)+";\nproxy_set_header Authorization \"\";\n}")
	if code, out := run(stripped); code != 1 || !strings.Contains(out, "BAD   The header Authorization does not reach hark.\n      Make the proxy") {
		t.Errorf("%d %s", code, out)
	}
}

// foreign is a server that is not hark.
func foreign(t *testing.T) string {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) }))
	t.Cleanup(s.Close)
	return s.URL
}

// Over HTTPS a proxy must say so to hark; and over plain HTTP, under a name, it must pass on Host.
func TestCheckNamesWhatHarkDoesNotLearn(t *testing.T) {
	hark, dir, addr, plain := harktest.Start(t, harktest.Secret(secret)), folder(t), harkproc.FreeAddr(t), harkproc.FreeAddr(t)
	files := tlstest.New(t)
	cert, key := certificates(t, dir, &files)
	runNginx(t, dir, "server {\nlisten "+plain+";\nlisten "+addr+" ssl http2;\nssl_certificate "+cert+";\nssl_certificate_key "+key+";\n"+
		"proxy_http_version 1.1;\nlocation / {\nproxy_pass "+hark.URL+";\n}\nlocation /host/ {\nproxy_pass "+hark.URL+"/;\nproxy_set_header Host $http_host;\n}\n}\n", addr)
	transport := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	transport.DialContext = func(ctx context.Context, network, at string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, strings.Replace(at, "hark.test", "127.0.0.1", 1))
	}
	look := func(url string) (bad, other []string) {
		t.Helper()
		return findings(t, check.Options{URL: url, Token: hark.Token("check"), Watch: time.Second, Transport: transport.Clone()})
	}
	if bad, other := look("https://" + addr); len(bad) > 0 || !slices.Contains(other, "changes_host") {
		t.Errorf("%v are bad, and besides there are %v", bad, other)
	}
	if bad, other := look("https://" + addr + "/host"); len(bad) > 0 || !slices.Contains(other, "no_forwarded_proto") {
		t.Errorf("%v are bad, and besides there are %v", bad, other)
	}
	if bad, _ := look("http://hark.test:" + port(plain)); !slices.Equal(bad, []string{"changes_host"}) {
		t.Errorf("%v are bad", bad)
	}
}

// Over HTTP/2 nothing is said of six connections.
func TestCheckOverHTTP2(t *testing.T) {
	t.Parallel()
	files, addr := tlstest.New(t), harkproc.FreeAddr(t)
	harkproc.Start(t, t.Output(), "serve", "--listen", addr, "--data", t.TempDir(), "--jwt-secret", secret, "--tls-cert", files.Cert, "--tls-key", files.Key)
	harkproc.Ready(t, "https://"+addr)
	issuer, err := auth.NewIssuer(auth.IssuerOptions{Secret: []byte(secret)})
	if err != nil {
		t.Fatal(err)
	}
	token, _, err := issuer.Issue("check", nil, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	bad, other := findings(t, check.Options{URL: "https://" + addr, Token: token, Watch: 2 * time.Second, Transport: transport})
	if len(bad) > 0 || !slices.Equal(other, []string{"reached", "poll", "at_once", "lasts", "many"}) {
		t.Errorf("%v are bad, and besides there are %v", bad, other)
	}
}
