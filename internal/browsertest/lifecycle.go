package browsertest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/cdproto/target"
	"github.com/chromedp/chromedp"
)

// Await evaluates a JavaScript expression and waits for the promise that it is.
func Await[T any](p *Tab, expression string) T {
	p.t.Helper()
	v, err := chromedp.Run(p.ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		p.t.Fatalf("%s: %v", expression, err)
	}
	return v
}

// Navigate loads another page in the tab.
func (p *Tab) Navigate(url string) {
	p.t.Helper()
	p.Do(chromedp.Navigate(url))
}

// Back goes back to the page before, from the browser's cache if it is there.
func (p *Tab) Back() {
	p.t.Helper()
	// A page from the cache is not loaded again, so there is no load to wait for.
	send(p, page.NavigateToHistoryEntry, page.NavigateToHistoryEntryParams{EntryID: p.before()})
}

// before returns the id of the page before this one.
func (p *Tab) before() int64 {
	p.t.Helper()
	history, err := chromedp.Run(p.ctx, chromedp.NavigationEntries())
	if err != nil || history.CurrentIndex < 1 {
		p.t.Fatalf("the tab has no page before this one: %v", err)
	}
	return history.Entries[history.CurrentIndex-1].ID
}

// Close closes the tab, as a user would.
func (p *Tab) Close() {
	p.t.Helper()
	send(p, page.Close, cdp.Empty{})
}

// Crash ends the process that runs the tab. It does not wait for that.
func (p *Tab) Crash() {
	go func() { _, _ = chromedp.Run(p.ctx, call(page.Crash, cdp.Empty{})) }() // it is never answered
}

// Freeze stops the tab as the browser does with one that has been hidden for long, and Thaw lets it go on.
func (p *Tab) Freeze() {
	p.t.Helper()
	send(p, page.SetWebLifecycleState, page.SetWebLifecycleStateParams{State: page.SetWebLifecycleStateStateFrozen})
}

// Thaw lets a frozen tab go on.
func (p *Tab) Thaw() {
	p.t.Helper()
	send(p, page.SetWebLifecycleState, page.SetWebLifecycleStateParams{State: page.SetWebLifecycleStateStateActive})
}

// row is JavaScript for the row of chrome://discards whose text includes a title. The page nests its parts in shadow trees.
const row = `(function find(tree) {
	for (const e of tree.querySelectorAll('*')) {
		if (e.localName === 'tr' && e.innerText.includes(%q)) return e;
		const found = e.shadowRoot && find(e.shadowRoot);
		if (found) return found;
	}
})(document)`

// Discard returns a function that has Chromium discard the tab, as it does when memory is short, and waits for that. The tab
// cannot be used afterwards: Chromium discards no tab that DevTools are attached to.
func (b *Browser) Discard(p *Tab) (discard func()) {
	p.t.Helper()
	title := "discarded " + rand.Text()
	Eval[string](p, fmt.Sprintf(`document.title = %q`, title))
	// Chromium discards no tab that its window shows, so there is another one in the window.
	send(p, runtime.Evaluate, runtime.EvaluateParams{Expression: `window.open("about:blank", "_blank", "noopener")`, UserGesture: new(true)})
	p.Until("the tab is hidden", `document.visibilityState === "hidden"`)
	discards := b.Tab("chrome://discards")
	tab := fmt.Sprintf(row, title)
	discards.Until("the tab is listed", tab+` !== undefined`)
	return func() {
		p.t.Helper()
		session := chromedp.FromContext(p.ctx).Target.SessionID
		if _, err := chromedp.CallBrowser(b.ctx, target.DetachFromTarget, target.DetachFromTargetParams{SessionID: session}); err != nil {
			p.t.Fatal(err)
		}
		discards.Until("the tab is discarded", fmt.Sprintf(`(tab => {
			if (tab?.innerText.includes('discarded (urgent)')) return true;
			[...tab?.querySelectorAll('[is=action-link]') ?? []].find(e => e.innerText.includes('Urgent Discard'))?.click();
			return false;
		})(%s)`, tab))
		discards.Close()
	}
}

// Offline cuts the tab off from the network, or brings it back.
func (p *Tab) Offline(offline bool) {
	p.t.Helper()
	send(p, network.Enable, network.EnableParams{})
	send(p, network.EmulateNetworkConditionsByRule, network.EmulateNetworkConditionsByRuleParams{
		MatchedNetworkConditions: []*network.Conditions{{DownloadThroughput: -1, UploadThroughput: -1, Offline: offline}},
	})
	send(p, network.OverrideNetworkState, network.OverrideNetworkStateParams{Offline: offline, DownloadThroughput: -1, UploadThroughput: -1})
}

func call[P, R any](command cdp.Command[P, R], params P) chromedp.Action[R] {
	return func(ctx context.Context, target *chromedp.Target) (R, error) {
		return cdp.Call(ctx, target, command, params)
	}
}

func send[P, R any](p *Tab, command cdp.Command[P, R], params P) {
	p.t.Helper()
	if _, err := chromedp.Run(p.ctx, call(command, params)); err != nil && !errors.Is(err, context.Canceled) {
		p.t.Fatalf("%s: %v", command.Method, err)
	}
}
