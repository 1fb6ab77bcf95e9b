package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/gin-gonic/gin"
	"github.com/xuri/excelize/v2"

	"github.com/hark-jobs/hark/internal/browsertest"
	"github.com/hark-jobs/hark/internal/exampletest"
)

func TestMain(m *testing.M) {
	gin.SetMode(gin.TestMode)
	os.Exit(m.Run())
}

// start runs the application on a data folder until stop is called or the test ends.
func start(t *testing.T, data string, allow ...string) (base string, stop func()) {
	t.Helper()
	return exampletest.Run(t, "/hark/readyz", func(ctx context.Context, l net.Listener) error {
		return run(ctx, l, options{data: data, allow: allow, log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	})
}

// signIn opens the page in a tab and signs in there.
func signIn(b *browsertest.Browser, base, user string) *browsertest.Tab {
	tab := b.Tab(base)
	tab.Until("the page asks for a name", `!document.getElementById("sign-in").hidden`)
	tab.Fill("[name=user]", user)
	tab.Click("#sign-in button")
	tab.Shows("#user", user)
	return tab
}

// has waits for the nth export of the tab's user to end, and fails the test if the tab then shows more.
func has(t *testing.T, tab *browsertest.Tab, n int) {
	t.Helper()
	tab.Until(fmt.Sprintf("%d exports have ended", n), fmt.Sprintf(
		`Math.min(...["#log a", "#jobs li"].map((list) => document.querySelectorAll(list).length)) >= %d`, n))
	if jobs, log := browsertest.Eval[int](tab, `document.querySelectorAll("#jobs li").length`), browsertest.Eval[int](tab, `document.querySelectorAll("#log li").length`); jobs != n || log != n {
		t.Errorf("the tab shows %d jobs and %d notifications, want %d of each", jobs, log, n)
	}
}

// isWorkbook fails the test unless the tab downloads a workbook with the 4,122 orders from the first notification.
func isWorkbook(t *testing.T, tab *browsertest.Tab) {
	t.Helper()
	dir := t.TempDir()
	tab.Downloads(dir)
	tab.Click("#log a")
	book, err := excelize.OpenFile(browsertest.Downloaded(t, dir, "orders-*.xlsx"))
	if err != nil {
		t.Fatal(err)
	}
	defer book.Close()
	rows, err := book.GetRows("Orders", excelize.Options{RawCellValue: true}) // formatting is slow with -race
	if err != nil || len(rows) != 4_123 || !slices.Contains(rows[0], "Customer") {
		t.Fatalf("the workbook has %d rows, %v; want 4,123 with the header", len(rows), err)
	}
}

// Each tab of a user gets the end of the user's exports, and no tab of a user whose name contains that name. The file is a workbook.
func TestExport(t *testing.T) {
	base, _ := start(t, t.TempDir())
	browser := browsertest.New(t, browsertest.Options{})
	one := signIn(browser, base, "a@b.c")
	two := browser.Tab(base)
	two.Shows("#user", "a@b.c")
	other := signIn(browsertest.New(t, browsertest.Options{}), base, "aa@b.c")
	one.Click("#export")
	has(t, one, 1)
	has(t, two, 1)
	// The events of a stream are in the order of the log: what came to the wrong user would be there by the end of a later export.
	other.Click("#export")
	has(t, other, 1)
	two.Click("#export")
	has(t, one, 2)
	has(t, two, 2)
	isWorkbook(t, two)
}

// After a restart the notification is there, unread, with its file, and it can be marked as read.
func TestRestart(t *testing.T) {
	data := t.TempDir()
	base, stop := start(t, data)
	tab := signIn(browsertest.New(t, browsertest.Options{}), base, "a@b.c")
	tab.Click("#export")
	tab.Shows("#log", "UNREAD: Export: Orders is ready")
	stop()
	base, _ = start(t, data)
	browser := browsertest.New(t, browsertest.Options{})
	tab = signIn(browser, base, "a@b.c")
	tab.Shows("#log", "UNREAD: Export: Orders is ready. 4,122 rows.")
	isWorkbook(t, tab)
	two := browser.Tab(base)
	two.Shows("#log", "UNREAD: Export: Orders is ready")
	tab.Click("#log button")
	two.Until("it is read in the other tab", `document.querySelector("#log li").innerText.startsWith("READ: ")`)
	two.Reload()
	two.Until("it is still read", `document.querySelector("#log li")?.innerText.startsWith("READ: ") === true`)
}

// other serves the page at another origin. The handler is there once the application is, whose URL is in the page.
func other(t *testing.T) (origin string, serve func(base string)) {
	server := httptest.NewUnstartedServer(nil)
	t.Cleanup(server.Close)
	return "http://" + server.Listener.Addr().String(), func(base string) {
		text := strings.Replace(string(page), `const app = "";`, fmt.Sprintf(`const app = %q;`, base), 1)
		if text == string(page) {
			t.Fatal("the page has no place for the URL of the application")
		}
		server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			_, _ = io.WriteString(w, text)
		})
		server.Start()
	}
}

// A page of an allowed origin works with the user's session. One of another origin can neither read the stream nor start an export, in
// whatever way it calls, although the browser sends the same session.
func TestOrigins(t *testing.T) {
	allowed, serveAllowed := other(t)
	foreign, serveForeign := other(t)
	base, _ := start(t, t.TempDir(), allowed)
	serveAllowed(base)
	serveForeign(base)
	browser := browsertest.New(t, browsertest.Options{Expected: []string{"blocked by CORS policy"}})
	own := signIn(browser, base, "a@b.c")

	page := browser.Tab(foreign)
	page.Shows("#status", "The application does not answer this page.")
	stream := fmt.Sprintf(`new Promise((end) => {
		const stream = new EventSource("%s/notification/socket-connection", { withCredentials: true });
		stream.onopen = () => { stream.close(); end("open") };
		stream.onerror = () => { stream.close(); end("refused") };
	})`, base)
	if got := browsertest.Await[string](page, stream); got != "refused" {
		t.Errorf("the stream is %s for a page of another origin", got)
	}
	for _, mode := range []string{"cors", "no-cors"} {
		browsertest.Await[string](page, fmt.Sprintf(
			`fetch("%s/notification/export-excel", { credentials: "include", mode: %q }).then(() => "unreadable", () => "refused")`, base, mode))
	}
	if n := browsertest.Await[int](own, `fetch("/hark/v1/jobs").then((response) => response.json()).then(({ jobs }) => jobs.length)`); n != 0 {
		t.Errorf("a page of another origin has started %d exports", n)
	}

	page = browser.Tab(allowed)
	page.Shows("#user", "a@b.c")
	if got := browsertest.Await[string](page, stream); got != "open" {
		t.Errorf("the stream is %s for a page of an allowed origin", got)
	}
	page.Click("#export")
	has(t, page, 1)
	has(t, own, 1)
	page.Click("#log button")
	own.Until("it is read", `document.querySelector("#log li").innerText.startsWith("READ: ")`)
}

// Neither a tab that was closed nor one that reads nothing keeps an export, the other tabs or the end of the application waiting.
func TestClosedTab(t *testing.T) {
	base, stop := start(t, t.TempDir())
	browser := browsertest.New(t, browsertest.Options{})
	tab := signIn(browser, base, "a@b.c")
	closed := browser.Tab(base)
	closed.Shows("#user", "a@b.c")
	closed.Close()
	openStream(t, base, "a@b.c")
	tab.Click("#export")
	has(t, tab, 1)
	other := signIn(browsertest.New(t, browsertest.Options{}), base, "aa@b.c")
	other.Click("#export")
	has(t, other, 1)
	stop()
}

// openStream signs a user in, opens the stream, and reads no more than the status of its response.
func openStream(t *testing.T, base, user string) {
	t.Helper()
	res, err := http.PostForm(base+"/sign-in", url.Values{"user": {user}})
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusNoContent || len(res.Cookies()) != 1 {
		t.Fatalf("signing in: %s", res.Status)
	}
	host := strings.TrimPrefix(base, "http://")
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	session := res.Cookies()[0]
	fmt.Fprintf(conn, "GET /notification/socket-connection HTTP/1.1\r\nHost: %s\r\nCookie: %s=%s\r\n\r\n", host, session.Name, session.Value)
	if line, err := bufio.NewReaderSize(conn, 16).ReadString('\n'); err != nil || !strings.HasPrefix(line, "HTTP/1.1 200") {
		t.Fatalf("the stream answers %q, %v", line, err)
	}
}
