// Package browsertest drives a real browser in tests.
package browsertest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// Browser is a headless Chromium with a fresh profile.
type Browser struct {
	t        *testing.T
	ctx      context.Context
	limit    time.Duration
	expected []string

	mu         sync.Mutex
	complaints []string
}

// Options of a browser.
type Options struct {
	// Flags are given to Chromium, without dashes and values.
	Flags []string
	// Hosts are names that lead to this machine. Pages under them are no secure contexts over plain HTTP.
	Hosts []string
	// Expected are parts of what pages may complain about, because the test makes them.
	Expected []string
	// Full starts Chromium with its user interface, which discards tabs and keeps pages in a back-forward cache. It takes twice the
	// CPU time. The default is Chromium's headless shell, if it is installed: the same engine without the user interface.
	Full bool
	// Limit is how long a tab may be used; 0 means four minutes.
	Limit time.Duration
}

// unusedFeatures are parts of Chromium that no test uses and that are started with it: the suggestions of the address bar, which are
// pages in a process of their own, and a renderer in reserve. Without them a browser that opens one page takes half of the CPU
// time.
var unusedFeatures = []string{"WebUIOmniboxPopup", "WebUIOmniboxAimPopup", "WebUIOmniboxFullPopup", "SpareRendererForSitePerProcess"}

// New starts Chromium, which ends with the test. What a page complains about fails the test at its end.
func New(t *testing.T, o Options) *Browser {
	t.Helper()
	if o.Limit == 0 {
		o.Limit = 4 * time.Minute
	}
	path, names := "", []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable"}
	if !o.Full {
		names = slices.Insert(names, 0, "chromium-headless-shell")
	}
	for _, name := range names {
		if found, err := exec.LookPath(name); err == nil {
			path = found
			break
		}
	}
	if path == "" {
		t.Fatal("Chromium is missing: run scripts/test-setup.sh, or install it (on Debian: apt-get install chromium)")
	}
	profile := t.TempDir()
	// Without this Chromium does not show chrome://discards.
	if err := os.WriteFile(filepath.Join(profile, "Local State"), []byte(`{"internal_only_uis_enabled":true}`), 0o600); err != nil {
		t.Fatal(err)
	}
	options := []chromedp.ExecAllocatorOption{
		chromedp.ExecPath(path), chromedp.UserDataDir(profile), chromedp.Headless, chromedp.NoSandbox,
		chromedp.DisableGPU, chromedp.NoFirstRun, chromedp.NoDefaultBrowserCheck, chromedp.WindowSize(1280, 900),
		chromedp.WSURLReadTimeout(time.Minute),
	}
	flags := []string{"disable-quic", "disable-background-networking", "disable-component-update", "disable-sync", "disable-dev-shm-usage"}
	for _, flag := range append(flags, o.Flags...) {
		options = append(options, chromedp.Flag(flag, true))
	}
	options = append(options, chromedp.Flag("disable-features", strings.Join(unusedFeatures, ",")))
	if len(o.Hosts) > 0 {
		options = append(options, chromedp.Flag("host-resolver-rules", "MAP "+strings.Join(o.Hosts, " 127.0.0.1, MAP ")+" 127.0.0.1"))
	}
	ctx, cancel := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(cancel)
	ctx, end := chromedp.NewContext(ctx)
	t.Cleanup(func() {
		if err := chromedp.Cancel(ctx); err != nil { // waits until the browser has ended
			t.Logf("browser: %v", err)
		}
		end()
	})
	b := &Browser{t: t, ctx: ctx, limit: o.Limit, expected: o.Expected}
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("Chromium did not start: %v", err)
	}
	t.Cleanup(b.checkComplaints)
	return b
}

// notSecure is what Chromium says of a header that it ignores because the page is no secure context, where the test wants that.
const notSecure = "Cross-Origin-Opener-Policy header has been ignored, because the URL's origin was untrustworthy"

// Tab opens a page in a tab of its own.
func (b *Browser) Tab(url string) *Tab {
	b.t.Helper()
	ctx, cancel := chromedp.NewContext(b.ctx)
	ctx, stop := context.WithTimeout(ctx, b.limit)
	b.t.Cleanup(func() { stop(); cancel() })
	exceptions, entries := chromedp.Events(ctx, runtime.ExceptionThrown), chromedp.Events(ctx, log.EntryAdded)
	go func() {
		for e, err := range exceptions {
			if err == nil {
				b.complain(fmt.Sprintf("exception: %s %+v", e.ExceptionDetails.Text, e.ExceptionDetails.Exception))
			}
		}
	}()
	go func() {
		for e, err := range entries {
			if err == nil && e.Entry.Level == log.EntryLevelError && e.Entry.Source != log.EntrySourceNetwork && !strings.Contains(e.Entry.Text, notSecure) {
				b.complain(fmt.Sprintf("%s: %s", e.Entry.Source, e.Entry.Text))
			}
		}
	}()
	p := &Tab{t: b.t, ctx: ctx}
	p.Do(chromedp.Navigate(url))
	return p
}

func (b *Browser) complain(text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.complaints = append(b.complaints, text)
}

func (b *Browser) checkComplaints() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, text := range b.complaints {
		if slices.ContainsFunc(b.expected, func(part string) bool { return strings.Contains(text, part) }) {
			continue
		}
		b.t.Errorf("the page complained: %s", text)
	}
}

// Tab is one page of the browser. Its methods fail the test when what they wait for does not come about.
type Tab struct {
	t   *testing.T
	ctx context.Context
}

// Do runs steps of chromedp in the tab.
func (p *Tab) Do(steps ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	if err := chromedp.Do(p.ctx, steps...); err != nil {
		p.t.Fatal(err)
	}
}

// Reload loads the page again.
func (p *Tab) Reload() {
	p.t.Helper()
	p.Do(chromedp.Reload())
}

// Screenshot returns what the tab shows, as a PNG.
func (p *Tab) Screenshot() []byte {
	p.t.Helper()
	png, err := chromedp.Run(p.ctx, chromedp.CaptureScreenshot())
	if err != nil {
		p.t.Fatal(err)
	}
	return png
}

// Downloads makes the browser put what is downloaded into dir, without asking.
func (p *Tab) Downloads(dir string) {
	p.t.Helper()
	p.Do(func(ctx context.Context, target *chromedp.Target) (chromedp.Void, error) {
		_, err := cdp.Call(ctx, target, browser.SetDownloadBehavior, browser.SetDownloadBehaviorParams{
			Behavior: browser.SetDownloadBehaviorBehaviorAllow, DownloadPath: dir,
		})
		return chromedp.Void{}, err
	})
}

// Downloaded waits for the one file like pattern that a browser puts into dir, and returns its path. Chromium reserves the
// name with an empty file, writes to another one, and renames that at the end.
func Downloaded(t *testing.T, dir, pattern string) string {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		files, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			t.Fatal(err)
		}
		if len(files) != 1 {
			continue
		}
		if info, err := os.Stat(files[0]); err == nil && info.Size() > 0 {
			return files[0]
		}
	}
	t.Fatal("nothing was downloaded")
	return ""
}

// Eval evaluates a JavaScript expression.
func Eval[T any](p *Tab, expression string) T {
	p.t.Helper()
	v, err := chromedp.Run(p.ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		p.t.Fatalf("%s: %v", expression, err)
	}
	return v
}

// ID selects an element by its hook for tests.
func ID(name string) string { return `[data-testid="` + name + `"]` }

// Click clicks an element as soon as that is possible.
func (p *Tab) Click(selector string) {
	p.t.Helper()
	click := fmt.Sprintf(
		`(() => { const e = document.querySelector(%q); if (!e || e.disabled || e.getClientRects().length === 0) return false; e.click(); return true })()`, selector)
	p.until(selector+" can be clicked", func() bool { return Eval[bool](p, click) }) // not again, after an error
}

// Fill sets the value of a field as a user's input would.
func (p *Tab) Fill(selector, value string) {
	p.t.Helper()
	p.Until(selector+" can be filled in", fmt.Sprintf(`(() => { const e = document.querySelector(%q); if (!e) return false;
		e.value = %q; e.dispatchEvent(new Event("input", {bubbles: true})); e.dispatchEvent(new Event("change", {bubbles: true}));
		return e.value === %[2]q })()`, selector, value))
}

// Until polls a JavaScript expression until it is true. It is evaluated again if another page was loaded meanwhile.
func (p *Tab) Until(what, expression string) {
	p.t.Helper()
	p.until(what, func() bool {
		ok, err := chromedp.Run(p.ctx, chromedp.Evaluate[bool](expression))
		if err != nil && !strings.Contains(err.Error(), pageReplaced) {
			p.t.Fatalf("%s: %v", expression, err)
		}
		return ok && err == nil
	})
}

// pageReplaced is Chromium's error for an expression during whose evaluation another page was loaded.
const pageReplaced = "Inspected target navigated or closed"

func (p *Tab) until(what string, ok func() bool) {
	p.t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if ok() {
			return
		}
	}
	p.t.Fatalf("in vain: %s\nthe page says:\n%s", what, Eval[string](p, "document.body.innerText"))
}

// Shows waits until an element is visible with a text in it.
func (p *Tab) Shows(selector, text string) {
	p.t.Helper()
	p.Until(fmt.Sprintf("%s shows %q", selector, text), fmt.Sprintf(
		`[...document.querySelectorAll(%q)].some(e => e.getClientRects().length > 0 && e.innerText.includes(%q))`, selector, text))
}

// Hides waits until no such element is visible.
func (p *Tab) Hides(selector string) {
	p.t.Helper()
	p.Until(selector+" is hidden", fmt.Sprintf(
		`[...document.querySelectorAll(%q)].every(e => e.getClientRects().length === 0)`, selector))
}
