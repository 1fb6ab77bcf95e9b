package e2e_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hark-jobs/hark/client"
	"github.com/hark-jobs/hark/harktest"
	"github.com/hark-jobs/hark/internal/browsertest"
	"github.com/hark-jobs/hark/internal/harkproc"
	"github.com/hark-jobs/hark/internal/logtest"
	"github.com/hark-jobs/hark/jobs"
)

// Below a path of the proxy's, which hark does not know, the page, its links, those of its notifications, the API, a
// session and the command work as they do at the root, with what docs/proxies.md says for each proxy.
func TestBelowAPath(t *testing.T) {
	t.Parallel()
	hark := harktest.Start(t, harktest.Secret(secret), harktest.Export(""))
	for _, proxy := range snippetProxies {
		t.Run(proxy.name, func(t *testing.T) {
			addr, _ := proxy.run(t, upstream(hark.URL), nil)
			b := below{t, hark, "http://" + addr, proxy.name}
			t.Run("client", func(t *testing.T) { b.client(t) }) // it waits for the sample shop as long as that takes
			t.Run("page", func(t *testing.T) { b.page(t) })
			t.Run("session", func(t *testing.T) { b.session(t) })
			t.Run("command", func(t *testing.T) { b.command(t) })
			if code, _ := get(t, b.url()+"/metrics"); code != http.StatusForbidden {
				t.Errorf("the metrics are answered with %d", code)
			}
		})
	}
}

// below is a hark below a path of a proxy's.
type below struct {
	t     *testing.T
	hark  *harktest.Hark
	proxy string // its root
	name  string
}

// user is one who is behind this proxy alone.
func (b below) user(name string) string { return name + " behind " + b.name }

func (b below) url() string { return b.proxy + "/tools/hark" }

// page follows each link of the page: to a job's file, to the file of a notification, and to what an application named.
func (b below) page(t *testing.T) {
	browser := browsertest.New(t, browsertest.Options{})
	page := browser.Tab(b.url()) // the proxy leads to the path with a slash
	page.Fill(browsertest.ID("sign-in-token"), b.hark.Token(b.user("ana")))
	page.Click(browsertest.ID("sign-in-with-token"))
	page.Shows(browsertest.ID("user"), b.user("ana"))
	page.Fill(browsertest.ID("param-dataset"), "products")
	page.Click(browsertest.ID("export"))
	page.Shows(browsertest.ID("toast"), "is ready")
	for _, link := range []string{
		"[data-job-id] " + browsertest.ID("download"),
		browsertest.ID("toast") + " " + browsertest.ID("note-download"),
	} {
		dir := t.TempDir()
		page.Downloads(dir)
		page.Click(link)
		checkWorkbook(t, browsertest.Downloaded(t, dir, "*.xlsx"), 301)
	}

	page.Click(browsertest.ID("bell"))
	page.Until("the notification has no link besides", `!!document.querySelector('[data-testid="notification"]') &&
		!document.querySelector('[data-testid="notification"] [data-testid="note-link"]')`)

	// Of a job that is not listed any more, its notification alone says that there is a file.
	const gone = "01M8AMXBYR17PGMVQY7E3B4ESY"
	notify := func(expires time.Duration) {
		t.Helper()
		_, _, err := b.hark.Queue.Store().Notify(t.Context(), b.user("ana"), jobs.Notification{Type: "job.succeeded", Title: "Old", JobID: gone,
			File: &jobs.File{Name: "old.csv", ExpiresAt: time.Now().Add(expires)}})
		if err != nil {
			t.Fatal(err)
		}
	}
	notify(time.Hour)
	newest := `document.querySelector('[data-testid="notification"]')`
	page.Until("it leads to the file", fmt.Sprintf(
		`%s.querySelector('[data-testid="note-download"]')?.href === %q`, newest, b.url()+"/v1/jobs/"+gone+"/file"))
	notify(-time.Hour)
	page.Until("but to none that has expired", fmt.Sprintf(`document.querySelectorAll('[data-testid="notification"]').length === 3 &&
		!%s.querySelector("a")`, newest))

	service, err := client.New(client.Options{URL: b.url(), Token: b.hark.Token("billing", "notify")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := service.Notify(t.Context(), b.user("ana"), jobs.Notification{Type: "t", Title: "A report", Link: "/reports/7"}); err != nil {
		t.Fatal(err)
	}
	page.Until("the application's link is the application's", fmt.Sprintf(
		`document.querySelector('[data-testid="notification"] [data-testid="note-link"]')?.href === %q`, b.proxy+"/reports/7"))
}

// client goes by what the API answers, as a program would.
func (b below) client(t *testing.T) {
	c, err := client.New(client.Options{URL: b.url(), Token: b.hark.Token(b.user("ben"))})
	if err != nil {
		t.Fatal(err)
	}
	job, err := c.Enqueue(t.Context(), client.Request{Kind: "export", Params: json.RawMessage(`{"dataset":"products","format":"csv"}`)})
	if err == nil {
		job, err = c.Follow(t.Context(), job, client.FollowOptions{})
	}
	if err != nil || job.State != jobs.Succeeded {
		t.Fatalf("%+v, %v", job, err)
	}
	var file bytes.Buffer
	if _, err := c.Download(t.Context(), job.ID, &file); err != nil || file.Len() == 0 {
		t.Errorf("%d bytes, %v", file.Len(), err)
	}

	// Nothing that is stored or answered names a path from the root.
	for what, v := range map[string]any{"the job": job, "its notification": awaitInbox(t, c, 1)} {
		if text, err := json.Marshal(v); err != nil || strings.Contains(string(text), "/v1/") {
			t.Errorf("%s has a path of the API: %s, %v", what, text, err)
		}
	}

	// Location is relative to the request (RFC 9110, section 10.2.2), the URL of a link to where hark is.
	res := b.call(t, http.DefaultClient, "POST", "/v1/jobs", `{"kind":"export","params":{"dataset":"products"}}`, b.hark.Token(b.user("ben")))
	to, err := res.Location()
	if err != nil {
		t.Fatal(err)
	}
	if res := b.follow(t, to.String(), b.hark.Token(b.user("ben"))); res.StatusCode != http.StatusOK {
		t.Errorf("the new job: %s at %s", res.Status, to)
	}
	res = b.call(t, http.DefaultClient, "POST", "/v1/jobs/"+job.ID+"/file/link", "", b.hark.Token(b.user("ben")))
	var link struct{ URL string }
	if err := json.NewDecoder(res.Body).Decode(&link); err != nil {
		t.Fatal(err)
	}
	base, err := url.Parse(b.url() + "/")
	if err != nil {
		t.Fatal(err)
	}
	if to, err = base.Parse(link.URL); err != nil {
		t.Fatal(err)
	}
	if res := b.follow(t, to.String(), ""); res.StatusCode != http.StatusOK {
		t.Errorf("the link to the file: %s at %s", res.Status, to)
	}
}

// session holds that the cookies work below the path, and go nowhere else.
func (b below) session(t *testing.T) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	browser := &http.Client{Jar: jar}
	if res := b.call(t, browser, "POST", "/v1/session", "", b.hark.Token(b.user("cleo"))); res.StatusCode != http.StatusOK {
		t.Fatal(res.Status)
	}
	for path, want := range map[string]int{"/tools/hark/v1/stream": 2, "/tools/hark/v1/jobs/J/file": 2, "/": 0, "/tools/other/v1/stream": 0} {
		at, err := url.Parse(b.proxy + path)
		if err != nil {
			t.Fatal(err)
		}
		if got := jar.Cookies(at); len(got) != want {
			t.Errorf("%s gets %v", path, got)
		}
	}
	if res := b.call(t, browser, "GET", "/v1/session", "", ""); res.StatusCode != http.StatusOK {
		t.Errorf("with the cookie: %s", res.Status)
	}
	if res := b.call(t, browser, "DELETE", "/v1/session", "", ""); res.StatusCode != http.StatusNoContent {
		t.Errorf("sign out: %s", res.Status)
	}
	if res := b.call(t, browser, "GET", "/v1/session", "", ""); res.StatusCode != http.StatusUnauthorized {
		t.Errorf("signed out: %s", res.Status)
	}
}

func (b below) command(t *testing.T) {
	file, out := filepath.Join(t.TempDir(), "products.xlsx"), new(logtest.Buffer)
	p := harkproc.Start(t, out, "export", "products", "-o", file, "--url", b.url(), "--token", b.hark.Token(b.user("dan")))
	if code := p.Wait(); code != 0 {
		t.Fatalf("exit code %d: %s", code, out)
	}
	checkWorkbook(t, file, 301)
}

func (b below) call(t *testing.T, c *http.Client, method, path, body, token string) *http.Response {
	t.Helper()
	return b.do(t, c, method, b.url()+path, body, token)
}

func (b below) follow(t *testing.T, to, token string) *http.Response {
	t.Helper()
	return b.do(t, http.DefaultClient, "GET", to, "", token)
}

// do makes a call, and returns its answer with the body read.
func (b below) do(t *testing.T, c *http.Client, method, to, body, token string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, to, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Origin", b.proxy)
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
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
	res.Body = io.NopCloser(bytes.NewReader(text))
	return res
}
