package e2e_test

import (
	"context"
	"fmt"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// browser is a headless Chromium with a fresh profile.
type browser struct {
	t   *testing.T
	ctx context.Context

	mu         sync.Mutex
	complaints []string
}

func newBrowser(t *testing.T) *browser {
	t.Helper()
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable"} {
		if found, err := exec.LookPath(name); err == nil {
			path = found
			break
		}
	}
	if path == "" {
		t.Fatal("Chromium is missing: run scripts/test-setup.sh, or install it (on Debian: apt-get install chromium)")
	}
	options := []chromedp.ExecAllocatorOption{
		chromedp.ExecPath(path), chromedp.UserDataDir(t.TempDir()), chromedp.Headless, chromedp.NoSandbox,
		chromedp.DisableGPU, chromedp.NoFirstRun, chromedp.NoDefaultBrowserCheck, chromedp.WindowSize(1280, 900),
		chromedp.WSURLReadTimeout(time.Minute),
	}
	for _, flag := range []string{"disable-quic", "disable-background-networking", "disable-component-update", "disable-sync", "disable-dev-shm-usage"} {
		options = append(options, chromedp.Flag(flag, true))
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
	b := &browser{t: t, ctx: ctx}
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("Chromium did not start: %v", err)
	}
	t.Cleanup(b.checkComplaints)
	return b
}

// tab opens a page in a tab of its own. What the page complains about fails the test at its end.
func (b *browser) tab(url string) *tab {
	b.t.Helper()
	ctx, cancel := chromedp.NewContext(b.ctx)
	ctx, stop := context.WithTimeout(ctx, 4*time.Minute)
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
			if err == nil && e.Entry.Level == log.EntryLevelError && e.Entry.Source != log.EntrySourceNetwork {
				b.complain(fmt.Sprintf("%s: %s", e.Entry.Source, e.Entry.Text))
			}
		}
	}()
	p := &tab{t: b.t, ctx: ctx}
	p.do(chromedp.Navigate(url))
	return p
}

func (b *browser) complain(text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.complaints = append(b.complaints, text)
}

func (b *browser) checkComplaints() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, text := range b.complaints {
		b.t.Errorf("the page complained: %s", text)
	}
}

// tab is one page of the browser.
type tab struct {
	t   *testing.T
	ctx context.Context
}

func (p *tab) do(steps ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	if err := chromedp.Do(p.ctx, steps...); err != nil {
		p.t.Fatal(err)
	}
}

// eval evaluates a JavaScript expression.
func eval[T any](p *tab, expression string) T {
	p.t.Helper()
	v, err := chromedp.Run(p.ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		p.t.Fatalf("%s: %v", expression, err)
	}
	return v
}

// id selects an element by its hook for tests.
func id(name string) string { return `[data-testid="` + name + `"]` }

func (p *tab) click(selector string) {
	p.t.Helper()
	p.until(selector+" can be clicked", fmt.Sprintf(
		`(() => { const e = document.querySelector(%q); if (!e || e.disabled || e.getClientRects().length === 0) return false; e.click(); return true })()`, selector))
}

// fill sets the value of a field as a user's input would.
func (p *tab) fill(selector, value string) {
	p.t.Helper()
	p.until(selector+" can be filled in", fmt.Sprintf(`(() => { const e = document.querySelector(%q); if (!e) return false;
		e.value = %q; e.dispatchEvent(new Event("input", {bubbles: true})); e.dispatchEvent(new Event("change", {bubbles: true}));
		return e.value === %[2]q })()`, selector, value))
}

// until polls a JavaScript expression until it is true.
func (p *tab) until(what, expression string) {
	p.t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if eval[bool](p, expression) {
			return
		}
	}
	p.t.Fatalf("in vain: %s\nthe page says:\n%s", what, eval[string](p, "document.body.innerText"))
}

// shows waits until an element is visible with a text in it.
func (p *tab) shows(selector, text string) {
	p.t.Helper()
	p.until(fmt.Sprintf("%s shows %q", selector, text), fmt.Sprintf(
		`[...document.querySelectorAll(%q)].some(e => e.getClientRects().length > 0 && e.innerText.includes(%q))`, selector, text))
}

// hides waits until no such element is visible.
func (p *tab) hides(selector string) {
	p.t.Helper()
	p.until(selector+" is hidden", fmt.Sprintf(
		`[...document.querySelectorAll(%q)].every(e => e.getClientRects().length === 0)`, selector))
}
