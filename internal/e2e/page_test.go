// Package e2e_test holds the stories that a person lives through with hark, from the outside: a real
// browser, the real program.
package e2e_test

import (
	"archive/zip"
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/hark-jobs/hark/harktest"
	"github.com/hark-jobs/hark/internal/browsertest"
	"github.com/hark-jobs/hark/internal/harkproc"
	"github.com/hark-jobs/hark/jobs"
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

// How a dataset is exported is chosen in the form, which offers what goes together and says what the server refuses.
func TestPageChoosesTheFormat(t *testing.T) {
	t.Parallel()
	url, _ := serve(t, t.TempDir())
	p := browsertest.New(t, browsertest.Options{}).Tab(url)
	// Browsers differ in the zones that they know.
	browsertest.Eval[bool](p, `(known => { Intl.supportedValuesOf = key => [...known(key), "Factory", "localtime", "posixrules", "posix/UTC", "right/UTC", "SystemV/EST5"]; })(Intl.supportedValuesOf), true`)
	p.Fill(browsertest.ID("sign-in-name"), "ana")
	p.Click(browsertest.ID("sign-in"))
	p.Fill(browsertest.ID("param-dataset"), "products")
	p.Until("a workbook has no separator", `!document.querySelector('[data-testid="param-csv_separator"]')`)
	p.Fill(browsertest.ID("param-format"), "csv")
	options := func(param string) string {
		return browsertest.Eval[string](p, `[...document.querySelector('[data-testid="param-`+param+`"]').options].map(o => o.value + (o.selected ? "*" : "")).join(" ")`)
	}
	if got := options("csv_separator") + " and " + options("csv_decimal"); got != ",* ; tab | and .*" {
		t.Errorf("the form offers %s", got)
	}
	p.Fill(browsertest.ID("param-csv_separator"), ";")
	if got := options("csv_decimal"); got != ".* ," {
		t.Errorf("beside a semicolon the form offers %s", got)
	}
	p.Fill(browsertest.ID("param-csv_decimal"), ",")
	p.Until("the zones are offered", `document.getElementById("time-zones").options.length > 100`)
	for _, name := range browsertest.Eval[[]string](p, `[...document.getElementById("time-zones").options].map(o => o.value)`) {
		if _, err := jobs.LoadZone(name); err != nil {
			t.Errorf("the page offers a zone that the server refuses: %v", err)
		}
	}
	p.Fill(browsertest.ID("param-timezone"), "Europe/Atlantis")
	p.Click(browsertest.ID("export"))
	p.Shows(browsertest.ID("param-timezone-error"), "Time zone must be a time zone of the IANA database")
	p.Fill(browsertest.ID("param-timezone"), "Europe/Berlin")
	p.Click(browsertest.ID("export"))
	p.Until("the job succeeds", `!!document.querySelector('[data-job-id][data-state="succeeded"]')`)
	dir := t.TempDir()
	p.Downloads(dir)
	p.Click("[data-job-id] " + browsertest.ID("download"))
	data, err := os.ReadFile(browsertest.Downloaded(t, dir, "*.csv"))
	if err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`^\x{feff}"SKU";"Product";"Category";"Price";"Stock";"Weight \(kg\)"\r\n"[^"]*";"[^"]*";"[^"]*";\d+,\d+;\d+;\d+(,\d+)?\r\n`).Match(data) {
		t.Errorf("the file begins with %.200q", data)
	}
}

// The story of the page, in two tabs of one browser: ask, watch, be told, download, read, reload.
func TestPage(t *testing.T) {
	t.Parallel()
	url, _ := serve(t, t.TempDir())
	b := browsertest.New(t, browsertest.Options{})
	one := b.Tab(url)
	one.Fill(browsertest.ID("sign-in-name"), "Ana Núñez 🦉")
	one.Click(browsertest.ID("sign-in"))
	one.Shows(browsertest.ID("user"), "Ana Núñez 🦉")
	two := b.Tab(url)
	two.Shows(browsertest.ID("user"), "Ana Núñez 🦉")
	for _, p := range []*browsertest.Tab{one, two} {
		p.Until("the stream is live", `document.querySelector('[data-testid="connection"]').dataset.state === "live"`)
	}

	// Ask, and watch.
	browsertest.Eval[bool](one, record)
	one.Fill(browsertest.ID("param-dataset"), "order_lines")
	one.Fill(browsertest.ID("param-from"), "2024-01-01")
	one.Click(browsertest.ID("export"))
	one.Until("the job succeeds", `!!document.querySelector('[data-job-id][data-state="succeeded"]')`)
	two.Until("the other tab shows it", `!!document.querySelector('[data-job-id][data-state="succeeded"]')`)
	seen := browsertest.Eval[string](one, `seen.join("|")`)
	if !strings.Contains(seen, "running ") {
		t.Errorf("the page never showed the job running: %s", seen)
	}
	one.Shows("[data-job-id]", "300,000")

	// Be told, in both tabs, and shown it in one: in the one that was opened last, and so is looked at.
	for _, p := range []*browsertest.Tab{one, two} {
		p.Shows(browsertest.ID("unread"), "1")
	}
	two.Shows(browsertest.ID("toast"), "Order lines")
	one.Hides(browsertest.ID("toast"))

	// Download.
	dir := t.TempDir()
	one.Downloads(dir)
	one.Click("[data-job-id] " + browsertest.ID("download"))
	checkWorkbook(t, browsertest.Downloaded(t, dir, "*.xlsx"), 300_001)

	// Read one: both tabs agree.
	one.Click(browsertest.ID("bell"))
	one.Shows(browsertest.ID("notification"), "Order lines")
	one.Click(browsertest.ID("notification") + " " + browsertest.ID("mark-read"))
	for _, p := range []*browsertest.Tab{one, two} {
		p.Hides(browsertest.ID("unread"))
	}

	// A second job, asked for in the other tab; mark all read there.
	two.Fill(browsertest.ID("param-dataset"), "products")
	two.Click(browsertest.ID("export"))
	one.Until("both jobs have succeeded", `document.querySelectorAll('[data-job-id][data-state="succeeded"]').length === 2`)
	for _, p := range []*browsertest.Tab{one, two} {
		p.Shows(browsertest.ID("unread"), "1")
	}
	two.Click(browsertest.ID("bell"))
	two.Click(browsertest.ID("mark-all-read"))
	for _, p := range []*browsertest.Tab{one, two} {
		p.Hides(browsertest.ID("unread"))
	}

	// Reload, and all is as it was; no toast for what is old.
	one.Reload()
	one.Until("both jobs are there", `document.querySelectorAll('[data-job-id][data-state="succeeded"]').length === 2`)
	one.Until("the stream is live", `document.querySelector('[data-testid="connection"]').dataset.state === "live"`)
	one.Hides(browsertest.ID("unread"))
	one.Hides(browsertest.ID("toast"))

	// Delete a file, once it was asked whether: the other tab offers it no more, and the job stays.
	downloads := func(n int) string {
		return fmt.Sprintf(`document.querySelectorAll('[data-testid="download"]:not([hidden])').length === %d`, n)
	}
	two.Until("both files can be downloaded", downloads(2))
	browsertest.Eval[bool](one, `window.confirm = () => false; true`)
	one.Click("[data-job-id] " + browsertest.ID("delete-file"))
	one.Until("the file stays when that is not confirmed", downloads(2))
	browsertest.Eval[bool](one, `window.confirm = (text) => text.startsWith("Delete "); true`)
	one.Click("[data-job-id] " + browsertest.ID("delete-file"))
	for _, p := range []*browsertest.Tab{one, two} {
		p.Until("one file is left", downloads(1))
		p.Shows("[data-job-id]", "file gone")
	}

	one.Click(browsertest.ID("bell"))
	one.Until("both notifications are there, read", `document.querySelectorAll('[data-testid="notification"][data-status="read"]').length === 2`)
	one.Until("one offers its file, and none what is gone", `document.querySelectorAll('[data-testid="note-download"]').length === 1 &&
		document.querySelectorAll('[data-testid="note-link"]').length === 0`)
	if dir := os.Getenv("HARK_SCREENSHOTS"); dir != "" {
		if err := os.WriteFile(filepath.Join(dir, "page.png"), one.Screenshot(), 0o644); err != nil {
			t.Error(err)
		}
	}
}

// A job that runs can be cancelled, and one that failed be run again, from either tab.
func TestPageCancelAndRetry(t *testing.T) {
	t.Parallel()
	hark := harktest.Start(t)
	b := browsertest.New(t, browsertest.Options{})
	one := b.Tab(hark.URL)
	one.Fill(browsertest.ID("sign-in-name"), "bob")
	one.Click(browsertest.ID("sign-in"))
	one.Shows(browsertest.ID("user"), "bob")
	two := b.Tab(hark.URL)
	one.Fill(browsertest.ID("param-seconds"), "3600")
	one.Click(browsertest.ID("export"))
	two.Until("the job runs", `!!document.querySelector('[data-job-id][data-state="running"]')`)
	two.Click("[data-job-id] " + browsertest.ID("cancel"))
	for _, p := range []*browsertest.Tab{one, two} {
		p.Until("the job is cancelled", `!!document.querySelector('[data-job-id][data-state="cancelled"]')`)
		p.Shows(browsertest.ID("unread"), "1")
	}
	one.Click("[data-job-id] " + browsertest.ID("retry"))
	two.Until("the job runs again", `!!document.querySelector('[data-job-id][data-state="running"]')`)
	one.Click("[data-job-id] " + browsertest.ID("cancel"))
	two.Until("the job is cancelled again", `!!document.querySelector('[data-job-id][data-state="cancelled"]')`)
	two.Shows(browsertest.ID("unread"), "2")
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
