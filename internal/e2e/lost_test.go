package e2e_test

import (
	"fmt"
	"syscall"
	"testing"

	"github.com/hark-jobs/hark/client"
	"github.com/hark-jobs/hark/harktest"
	"github.com/hark-jobs/hark/internal/browsertest"
	"github.com/hark-jobs/hark/internal/harkproc"
	"github.com/hark-jobs/hark/internal/polltest"
)

// connection is true when the page shows a state of the connection, and text beside it.
func connection(state, text string) string {
	return fmt.Sprintf(`(({ dataset, innerText }) => dataset.state === %q && innerText.includes(%q))(document.querySelector('[data-testid="connection"]'))`, state, text)
}

// A browser that was offline has everything afterwards, once: one tab shows it in one toast, which leads to all of it. What
// was read elsewhere meanwhile arrives read.
func TestOfflineAndBack(t *testing.T) {
	t.Parallel()
	hark := harktest.Start(t, harktest.Secret(secret))
	network, url := newRelay(t, hark.URL)
	s := newTabs(t, url)
	s.service = newClient(t, hark.URL, "service", "notify")
	s.signIn("ana")
	all := []*browsertest.Tab{s.open(), s.open()}
	s.live(all...)
	page := s.browser.Tab(s.url) // opened last, so it is looked at
	page.Until("the page is live", connection("live", "Live"))
	s.patient(append(all, page)...)

	for _, p := range append(all, page) {
		p.Offline(true)
	}
	network.Cut(true)
	page.Until("the page says since when it is not live", connection("offline", " since ")+"||"+connection("reconnecting", " since "))
	s.tell("ana", 18)
	ana := newClient(t, hark.URL, "ana")
	list, err := ana.NotificationPage(t.Context(), client.NotificationsQuery{Limit: 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ana.MarkRead(t.Context(), list.Notifications[0].ID); err != nil {
		t.Fatal(err)
	}
	network.Cut(false)
	for _, p := range all {
		p.Offline(false)
		p.Until("the tab is live again", `hark.status === "live"`)
	}
	// This tab hears of the stream by the others before it can fetch its list.
	page.Offline(false)
	page.Until("the page is live again", connection("live", "Live"))
	s.got(1, 18, all...)
	page.Shows(browsertest.ID("toast"), "17 new notifications")
	page.Shows(browsertest.ID("unread"), "17")
	page.Until("there is one toast", `document.querySelectorAll('[data-testid="toast"]').length === 1`)
	for i, p := range all {
		p.Until("the tab has counted them", `hark.unread === 17`)
		if n := browsertest.Eval[int](p, "toasts.length"); n != 0 {
			t.Errorf("tab %d has shown something, too", i)
		}
	}
	page.Click(browsertest.ID("toast-all"))
	page.Until("all are there", `document.querySelectorAll('[data-testid="notification"]').length === 18`)
	s.streams(1)
}

// A server that stands still for a while: the page says so, and since when; a call ends with a sentence; and when the server
// goes on nothing is lost.
func TestServerStandsStill(t *testing.T) {
	t.Parallel()
	addr := harkproc.FreeAddr(t)
	p := harkproc.Start(t, t.Output(), "serve", "--listen", addr, "--data", t.TempDir(), "--jwt-secret", secret)
	harkproc.Ready(t, "http://"+addr)
	s := newTabs(t, "http://"+addr)
	s.signIn("ana")
	tab, page := s.open(), s.browser.Tab(s.url)
	s.live(tab)
	page.Until("the page is live", connection("live", "Live"))
	page.Shows(browsertest.ID("export"), "Export")
	s.tell("ana", 1)
	s.got(1, 1, tab)

	p.Signal(syscall.SIGSTOP)
	page.Click(browsertest.ID("export"))
	page.Until("the page says since when it is not live", connection("reconnecting", " since "))
	page.Shows(browsertest.ID("ask-error"), "The server did not respond within")
	page.Until("the button can be pressed again", `document.querySelector('[data-testid="export"]').getAttribute("aria-disabled") !== "true"`)
	p.Signal(syscall.SIGCONT)
	page.Until("the page is live again", connection("live", "Live"))
	s.tell("ana", 1)
	s.got(1, 2, tab)
	// It may have been accepted or not: pressing again asks for the same job.
	page.Click(browsertest.ID("export"))
	page.Until("there is one job", `document.querySelectorAll('[data-job-id]').length === 1`)
}

// A session that ends while the page is open: signing in is offered where the user is, in every tab, and what was typed
// stays. Signed in again, the page goes on.
func TestSessionEndsInPlace(t *testing.T) {
	t.Parallel()
	hark := harktest.Start(t, harktest.Secret(secret))
	s := newTabs(t, hark.URL)
	s.signIn("ana")
	one, two := s.browser.Tab(s.url), s.browser.Tab(s.url)
	for _, p := range []*browsertest.Tab{one, two} {
		p.Until("the page is live", connection("live", "Live"))
	}
	s.tell("ana", 1)
	one.Shows(browsertest.ID("unread"), "1")
	one.Fill(browsertest.ID("param-seconds"), "4711")
	browsertest.Eval[bool](one, `document.querySelector('[data-testid="param-seconds"]').focus(), true`)

	admin := newClient(t, s.url, "root", "admin")
	if _, err := admin.Revoke(t.Context(), client.Revocation{User: "ana"}); err != nil {
		t.Fatal(err)
	}
	for _, p := range []*browsertest.Tab{one, two} {
		p.Shows(browsertest.ID("sign-in-error"), "Your session has ended. Sign in to continue.")
		p.Shows(browsertest.ID("export"), "")
		p.Shows(browsertest.ID("unread"), "1")
		p.Until("the connection says so", connection("unauthorized", "Signed out"))
	}
	one.Until("what was typed is there, and so is the keyboard", `document.activeElement.dataset.testid === "param-seconds" && document.activeElement.value === "4711"`)

	// Tokens of the second of the revocation are revoked, too.
	polltest.Nil(t, "a new token is valid", func() error {
		_, err := newClient(t, s.url, "ana").Kinds(t.Context())
		return err
	})
	one.Fill(browsertest.ID("sign-in-token"), token(t, "ana"))
	one.Click(browsertest.ID("sign-in-with-token"))
	for _, p := range []*browsertest.Tab{one, two} {
		p.Until("the page is live again", connection("live", "Live"))
		p.Hides("#sign-in")
	}
	one.Until("what was typed is still there", `document.querySelector('[data-testid="param-seconds"]').value === "4711"`)
	s.tell("ana", 1)
	for _, p := range []*browsertest.Tab{one, two} {
		p.Shows(browsertest.ID("unread"), "2")
	}
}
