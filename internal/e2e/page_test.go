// Package e2e_test holds the stories that a person lives through with hark, from the outside: a real
// browser, the real program.
package e2e_test

import (
	"archive/zip"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	browsercdp "github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/chromedp"
	"github.com/hark-jobs/hark/harktest"
	"github.com/hark-jobs/hark/internal/harkproc"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	code := harkproc.Main(m)
	if err := goleak.Find(); code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// serve starts the real program on data in dir, as a newcomer does, and returns its URL.
func serve(t *testing.T, dir string) (url string, p *harkproc.Process) {
	t.Helper()
	addr := harkproc.FreeAddr(t)
	p = harkproc.Start(t, t.Output(), "serve", "--listen", addr, "--data", dir)
	harkproc.Ready(t, "http://"+addr)
	return "http://" + addr, p
}

// record keeps every state and progress that a job's row goes through.
const record = `window.seen = []; new MutationObserver(() => {
	for (const row of document.querySelectorAll("[data-job-id]")) {
		const bar = row.querySelector("[role=progressbar]");
		seen.push(row.dataset.state + " " + (bar?.getAttribute("aria-valuenow") ?? ""));
	}
}).observe(document.body, {subtree: true, childList: true, attributes: true}); true`

// The story of the page, in two tabs of one browser: ask, watch, be told, download, read, reload.
func TestPage(t *testing.T) {
	url, _ := serve(t, t.TempDir())
	b := newBrowser(t)
	one := b.tab(url)
	one.fill(id("sign-in-name"), "Ana Núñez 🦉")
	one.click(id("sign-in"))
	one.shows(id("user"), "Ana Núñez 🦉")
	two := b.tab(url)
	two.shows(id("user"), "Ana Núñez 🦉")
	for _, p := range []*tab{one, two} {
		p.until("the stream is live", `document.querySelector('[data-testid="connection"]').dataset.state === "live"`)
	}

	// Ask, and watch.
	eval[bool](one, record)
	one.fill(id("param-dataset"), "order_lines")
	one.fill(id("param-from"), "2024-01-01")
	one.click(id("export"))
	one.until("the job succeeds", `!!document.querySelector('[data-job-id][data-state="succeeded"]')`)
	two.until("the other tab shows it", `!!document.querySelector('[data-job-id][data-state="succeeded"]')`)
	seen := eval[string](one, `seen.join("|")`)
	if !strings.Contains(seen, "running ") {
		t.Errorf("the page never showed the job running: %s", seen)
	}
	one.shows("[data-job-id]", "300,000")

	// Be told, in both tabs.
	for _, p := range []*tab{one, two} {
		p.shows(id("toast"), "Order lines")
		p.shows(id("unread"), "1")
	}

	// Download.
	dir := t.TempDir()
	one.do(func(ctx context.Context, target *chromedp.Target) (chromedp.Void, error) {
		_, err := cdp.Call(ctx, target, browsercdp.SetDownloadBehavior, browsercdp.SetDownloadBehaviorParams{
			Behavior: browsercdp.SetDownloadBehaviorBehaviorAllow, DownloadPath: dir,
		})
		return chromedp.Void{}, err
	})
	one.click("[data-job-id] " + id("download"))
	checkWorkbook(t, downloaded(t, dir), 300_001)

	// Read one: both tabs agree.
	one.click(id("bell"))
	one.shows(id("notification"), "Order lines")
	one.click(id("notification") + " " + id("mark-read"))
	for _, p := range []*tab{one, two} {
		p.hides(id("unread"))
	}

	// A second job, asked for in the other tab; mark all read there.
	two.fill(id("param-dataset"), "products")
	two.click(id("export"))
	one.until("both jobs have succeeded", `document.querySelectorAll('[data-job-id][data-state="succeeded"]').length === 2`)
	for _, p := range []*tab{one, two} {
		p.shows(id("unread"), "1")
	}
	two.click(id("bell"))
	two.click(id("mark-all-read"))
	for _, p := range []*tab{one, two} {
		p.hides(id("unread"))
	}

	// Reload, and all is as it was; no toast for what is old.
	one.do(chromedp.Reload())
	one.until("both jobs are there", `document.querySelectorAll('[data-job-id][data-state="succeeded"]').length === 2`)
	one.until("the stream is live", `document.querySelector('[data-testid="connection"]').dataset.state === "live"`)
	one.hides(id("unread"))
	one.hides(id("toast"))
	one.click(id("bell"))
	one.until("both notifications are there, read", `document.querySelectorAll('[data-testid="notification"][data-status="read"]').length === 2`)
	if dir := os.Getenv("HARK_SCREENSHOTS"); dir != "" {
		png, err := chromedp.Run(one.ctx, chromedp.CaptureScreenshot())
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "page.png"), png, 0o644); err != nil {
			t.Error(err)
		}
	}
}

// A job that runs can be cancelled, and one that failed be run again, from either tab.
func TestPageCancelAndRetry(t *testing.T) {
	hark := harktest.Start(t)
	b := newBrowser(t)
	one := b.tab(hark.URL)
	one.fill(id("sign-in-name"), "bob")
	one.click(id("sign-in"))
	one.shows(id("user"), "bob")
	two := b.tab(hark.URL)
	one.fill(id("param-seconds"), "3600")
	one.click(id("export"))
	two.until("the job runs", `!!document.querySelector('[data-job-id][data-state="running"]')`)
	two.click("[data-job-id] " + id("cancel"))
	for _, p := range []*tab{one, two} {
		p.until("the job is cancelled", `!!document.querySelector('[data-job-id][data-state="cancelled"]')`)
		p.shows(id("unread"), "1")
	}
	one.click("[data-job-id] " + id("retry"))
	two.until("the job runs again", `!!document.querySelector('[data-job-id][data-state="running"]')`)
	one.click("[data-job-id] " + id("cancel"))
	two.until("the job is cancelled again", `!!document.querySelector('[data-job-id][data-state="cancelled"]')`)
	two.shows(id("unread"), "2")
}

// downloaded waits for the one file that a browser puts into dir.
func downloaded(t *testing.T, dir string) string {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		files, err := filepath.Glob(filepath.Join(dir, "*.xlsx"))
		if err != nil {
			t.Fatal(err)
		}
		if len(files) == 1 {
			return files[0]
		}
	}
	t.Fatal("nothing was downloaded")
	return ""
}

// checkWorkbook counts the rows of a workbook's first sheet. What is in the cells is for the export's own tests.
func checkWorkbook(t *testing.T, path string, want int) {
	t.Helper()
	book, err := zip.OpenReader(path)
	if err != nil {
		t.Fatal(err)
	}
	defer book.Close()
	sheet, err := book.Open("xl/worksheets/sheet1.xml")
	if err != nil {
		t.Fatal(err)
	}
	defer sheet.Close()
	xml, err := io.ReadAll(sheet)
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(xml, []byte("<row ")); n != want {
		t.Errorf("%d rows in %s, want %d", n, filepath.Base(path), want)
	}
}
