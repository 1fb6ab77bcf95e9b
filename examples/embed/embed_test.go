package main

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/gin-gonic/gin"

	"github.com/hark-jobs/hark/internal/browsertest"
	"github.com/hark-jobs/hark/internal/exampletest"
	"github.com/hark-jobs/hark/internal/pgtest"
)

func TestMain(m *testing.M) {
	gin.SetMode(gin.TestMode)
	os.Exit(m.Run())
}

// start runs the application until the test ends, and returns its URL.
func start(t *testing.T, o options) string {
	t.Helper()
	base, _ := exampletest.Run(t, "/internal/hark/readyz", func(ctx context.Context, l net.Listener) error { return run(ctx, l, o) })
	return base
}

// Two users sign in at the application, enqueue a job in its page, download its file, and are notified, each of their own;
// signing out ends the stream.
func TestEmbed(t *testing.T) {
	for name, database := range map[string]func(*testing.T) string{
		"SQLite":     func(*testing.T) string { return "" },
		"PostgreSQL": func(t *testing.T) string { return pgtest.DSN(t) },
	} {
		t.Run(name, func(t *testing.T) {
			base := start(t, options{data: t.TempDir(), database: database(t), log: slog.New(slog.NewTextHandler(t.Output(), nil))})
			browser := browsertest.New(t, browsertest.Options{})
			ana := browser.Tab(base)
			ana.Until("the page asks for a name", `document.getElementById("login")?.hidden === false`)
			ana.Fill(`[name=user]`, "ana")
			ana.Fill(`[name=password]`, "ana")
			ana.Click("#login button")
			ana.Shows("#user", "ana")
			ana.Click("#orders")
			ana.Shows("#jobs", "Orders: succeeded")
			ana.Shows("#notifications", "12 orders")
			ana.Shows("#unread", "1")
			dir := t.TempDir()
			ana.Downloads(dir)
			ana.Click("#jobs a")
			if text, err := os.ReadFile(browsertest.Downloaded(t, dir, "*.csv")); err != nil || !strings.HasPrefix(string(text), "Item 12 of ana,1200\n") || strings.Contains(string(text), "bob") {
				t.Errorf("the file has %q, %v; want the orders of ana alone, the dearest first", text, err)
			}

			bob := signIn(t, base, "bob")
			if _, body := get(t, bob, base+"/internal/hark/v1/jobs"); !strings.Contains(body, `"jobs":[]`) {
				t.Errorf("bob's jobs are %s, want none", body)
			}
			if _, body := get(t, bob, base+"/internal/hark/v1/session"); !strings.Contains(body, `"bob"`) {
				t.Errorf("bob's session is %s", body)
			}

			ana.Click("#logout")
			ana.Until("the page asks for a name", `document.getElementById("login")?.hidden === false && document.getElementById("desk").hidden`)
		})
	}
}

// hark's own page has no form to sign in, since the application does that: it links there, and has no button to sign out.
func TestPageOfHark(t *testing.T) {
	base := start(t, options{data: t.TempDir(), log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	page := base + "/internal/hark/"
	tab := browsertest.New(t, browsertest.Options{}).Tab(page)
	tab.Shows(browsertest.ID("sign-in-closed"), "Sign in to the application that this page is part of")
	for _, form := range []string{"sign-in-token", "sign-in-with-token", "sign-in-name", "sign-in"} {
		tab.Hides(browsertest.ID(form))
	}
	tab.Click(browsertest.ID("sign-in-link"))
	tab.Until("the application asks for a name", `location.pathname === "/" && document.getElementById("login")?.hidden === false`)
	tab.Fill(`[name=user]`, "ana")
	tab.Fill(`[name=password]`, "ana")
	tab.Click("#login button")
	tab.Shows("#user", "ana")
	tab.Navigate(page)
	tab.Shows(browsertest.ID("user"), "ana")
	tab.Hides(browsertest.ID("sign-in-closed"))
	tab.Hides(browsertest.ID("sign-out"))
}

// Health checks and metrics are where the application put them, other paths are the application's, and hark answers nobody
// who is not signed in.
func TestMounted(t *testing.T) {
	base := start(t, options{data: t.TempDir(), log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	bob := signIn(t, base, "bob")
	for _, c := range []struct {
		client *http.Client
		path   string
		status int
		says   string
	}{
		{http.DefaultClient, "/internal/hark/livez", 200, "ok"},
		{http.DefaultClient, "/internal/hark/readyz", 200, `"ready"`},
		{http.DefaultClient, "/metrics", 200, "hark_nats_connected 1"},
		{http.DefaultClient, "/internal/hark/openapi.json", 200, "openapi"},
		{http.DefaultClient, "/internal/hark/v1/jobs", 401, "token_missing"},
		{bob, "/internal/hark/v1/kinds", 200, `"orders"`},
		{bob, "/internal/hark/v1/nothing", 404, "404 page not found"},
		{bob, "/v1/jobs", 404, "404 page not found"},
		{http.DefaultClient, "/", 200, "<h1>Orders</h1>"},
	} {
		if status, body := get(t, c.client, base+c.path); status != c.status || !strings.Contains(body, c.says) {
			t.Errorf("%s: got %d, %.200s; want %d, %s", c.path, status, body, c.status, c.says)
		}
	}
	if _, body := get(t, http.DefaultClient, base+"/metrics"); strings.Contains(body, "go_goroutines") {
		t.Error("the metrics of the process are there, which the application did not register")
	}
}

// Signing out ends the streams of the session.
func TestSignOut(t *testing.T) {
	base := start(t, options{data: t.TempDir(), log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	bob := signIn(t, base, "bob")
	req, err := http.NewRequestWithContext(t.Context(), "GET", base+"/internal/hark/v1/stream", nil)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := bob.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Body.Close()
	if _, err := bufio.NewReader(stream.Body).ReadString('\n'); err != nil || stream.StatusCode != http.StatusOK {
		t.Fatal(stream.Status, err)
	}
	if req, err = http.NewRequestWithContext(t.Context(), "POST", base+"/logout", nil); err != nil {
		t.Fatal(err)
	}
	res, err := bob.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if rest, err := io.ReadAll(stream.Body); err != nil || !strings.Contains(string(rest), "event: bye") {
		t.Errorf("the stream ends with %q, %v; want bye", rest, err)
	}
	if status, body := get(t, bob, base+"/internal/hark/v1/session"); status != http.StatusUnauthorized {
		t.Errorf("the session is still good: %d, %s", status, body)
	}
}

// signIn returns a client with the session of a user.
func signIn(t *testing.T, base, user string) *http.Client {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	c := &http.Client{Jar: jar, Transport: new(http.Transport)}
	t.Cleanup(c.CloseIdleConnections)
	res, err := c.PostForm(base+"/login", url.Values{"user": {user}, "password": {user}})
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Fatalf("signing in: %s", res.Status)
	}
	return c
}

func get(t *testing.T, c *http.Client, url string) (status int, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(text)
}
