package e2e_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"testing"

	"github.com/hark-jobs/hark/client"
	"github.com/hark-jobs/hark/harktest"
	"github.com/hark-jobs/hark/internal/browsertest"
	"github.com/hark-jobs/hark/internal/polltest"
	"github.com/hark-jobs/hark/jobs"
)

// tabs is one browser with tabs of one hark, and a service that notifies their users.
type tabs struct {
	t       *testing.T
	url     string
	browser *browsertest.Browser
	service *client.Client
	told    int
}

func newTabs(t *testing.T, url string) *tabs {
	return tabsIn(t, url, browsertest.New(t, browsertest.Options{}))
}

func tabsIn(t *testing.T, url string, browser *browsertest.Browser) *tabs {
	return &tabs{t: t, url: url, browser: browser, service: newClient(t, url, "service", "notify")}
}

// open opens a page of hark's origin without a script, imports hark.js, and records what it hears.
func (s *tabs) open() *browsertest.Tab {
	s.t.Helper()
	p := s.browser.Tab(s.url + "/assets/link.js")
	s.listen(p)
	return p
}

func (s *tabs) listen(p *browsertest.Tab) {
	s.t.Helper()
	browsertest.Await[bool](p, `(async () => {
		const { connect } = await import("/hark.js");
		Object.assign(window, { got: [], statuses: [], toasts: [], hark: connect() });
		hark.on("notification", (it) => got.push(it.title));
		hark.on("toast", (all) => toasts.push(all.length));
		hark.on("status", (status) => statuses.push(status));
		return true;
	})()`)
}

// signIn signs a user in, in all tabs. It is done in a tab of its own, which is closed again.
func (s *tabs) signIn(user string) {
	s.t.Helper()
	s.session("POST", `{ headers: { Authorization: "Bearer `+token(s.t, user)+`" } }`)
}

func (s *tabs) session(method, options string) {
	s.t.Helper()
	p := s.browser.Tab(s.url + "/assets/link.js")
	browsertest.Await[bool](p, fmt.Sprintf(`import("/hark.js").then(({ caller }) => caller()(%q, "/v1/session", %s)).then(() => true)`, method, options))
	p.Close()
}

// live waits until all of these tabs are live, and have their lists.
func (s *tabs) live(all ...*browsertest.Tab) {
	s.t.Helper()
	for _, p := range all {
		p.Until("the tab is live", `hark.status === "live" && hark.loaded.notifications && hark.loaded.jobs`)
	}
}

// hearLive makes tabs listen to the live events for everyone, publishes some once they do, and waits until each tab has all, in order.
func (s *tabs) hearLive(all ...*browsertest.Tab) {
	s.t.Helper()
	for _, p := range all {
		browsertest.Eval[bool](p, `Object.assign(window, { heard: [], listens: false }), hark.subscribe("_all", (event) => heard.push(event.data), () => { listens = true }), true`)
	}
	for _, p := range all {
		p.Until("the tab listens", "listens")
	}
	for i := range 5 {
		if err := s.service.Publish(s.t.Context(), jobs.LiveEvent{Topic: jobs.TopicAll, Type: "number", Data: json.RawMessage(strconv.Itoa(i))}); err != nil {
			s.t.Fatal(err)
		}
	}
	for _, p := range all {
		p.Until("the tab has all live events", "heard.length >= 5")
		if got := browsertest.Eval[string](p, "heard.join()"); got != "0,1,2,3,4" {
			s.t.Errorf("a tab got the live events %s", got)
		}
	}
}

// patient lengthens the times within which the tab that the user looks at shows a notification, and for which a page shows
// it: a busy machine takes longer than users wait.
func (s *tabs) patient(all ...*browsertest.Tab) {
	s.t.Helper()
	for _, p := range all {
		browsertest.Await[bool](p, `Promise.all([import("/assets/showing.js"), import("/assets/toasts.js")]).then(([{ showTimes }, { toastTimes }]) => {
			Object.assign(showTimes, { notYet: 60_000, over: 120_000 });
			Object.assign(toastTimes, { shown: 300_000, failed: 300_000 });
			return true;
		})`)
	}
}

// tell notifies a user n times.
func (s *tabs) tell(user string, n int) {
	s.t.Helper()
	for range n {
		s.told++
		if _, err := s.service.Notify(s.t.Context(), user, jobs.Notification{Type: "test", Title: strconv.Itoa(s.told)}); err != nil {
			s.t.Fatal(err)
		}
	}
}

// got checks that each tab has all from first to last, once and in order.
func (s *tabs) got(first, last int, all ...*browsertest.Tab) {
	s.t.Helper()
	var want []string
	for i := first; i <= last; i++ {
		want = append(want, strconv.Itoa(i))
	}
	for i, p := range all {
		p.Until("the tab has the last notification", fmt.Sprintf(`got.includes("%d")`, last))
		if got := browsertest.Eval[[]string](p, "got"); !slices.Equal(got, want) {
			s.t.Errorf("tab %d got %v, want %v", i, got, want)
		}
	}
}

// leader returns the tab that has the stream, and the others.
func (s *tabs) leader(all ...*browsertest.Tab) (leader *browsertest.Tab, others []*browsertest.Tab) {
	s.t.Helper()
	polltest.Until(s.t, "the tabs have one leader", func() bool {
		leader, others = nil, nil
		n := 0
		for _, p := range all {
			if browsertest.Eval[bool](p, "hark.leads") {
				leader = p
				n++
			} else {
				others = append(others, p)
			}
		}
		return n == 1
	})
	return leader, others
}

// streams waits until hark has that number of streams open.
func (s *tabs) streams(n int) {
	s.t.Helper()
	answers(s.t, s.url+"/metrics", 200, fmt.Sprintf("\nhark_streams %d\n", n))
}

// Twenty tabs of one user, over HTTP/1.1, where a browser opens six connections: there is one stream, every call is
// answered, every tab has every notification once, and one of them shows it.
func TestTwentyTabs(t *testing.T) {
	t.Parallel()
	hark := harktest.Start(t, harktest.Secret(secret))
	s := newTabs(t, hark.URL)
	s.signIn("ana")
	var pages, all []*browsertest.Tab
	for range 3 {
		pages = append(pages, s.browser.Tab(s.url))
	}
	for range 17 {
		all = append(all, s.open())
	}
	s.live(all...)
	for _, p := range pages {
		p.Until("the page is live", `document.querySelector('[data-testid="connection"]').dataset.state === "live"`)
	}
	s.streams(1)
	s.patient(append(slices.Clone(all), pages...)...)
	for i, p := range append(slices.Clone(all), pages...) {
		took := browsertest.Await[float64](p, `(async () => { const began = performance.now(); await (await fetch("/v1/kinds")).text(); return performance.now() - began })()`)
		if took > 10_000 {
			t.Errorf("a call of tab %d took %.0f ms", i, took)
		}
	}
	s.tell("ana", 3)
	s.got(1, 3, all...)
	for _, p := range pages {
		p.Shows(browsertest.ID("unread"), "3")
	}
	last := all[len(all)-1]
	last.Until("the last tab shows all", `toasts.reduce((sum, n) => sum + n, 0) === 3`)
	// Read in one tab, read in all.
	browsertest.Await[bool](all[0], `hark.markAllRead().then(() => true)`)
	for _, p := range all {
		p.Until("all is read", "hark.unread === 0")
	}
	for _, p := range pages {
		p.Hides(browsertest.ID("unread"))
		p.Hides(browsertest.ID("toast"))
	}
	for i, p := range all[:len(all)-1] {
		if n := browsertest.Eval[int](p, "toasts.length"); n != 0 {
			t.Errorf("tab %d has shown something, too", i)
		}
	}
	s.streams(1)
}

// Who signs in or out does so in all tabs; what is one user's reaches no tab of another.
func TestUsersInTabs(t *testing.T) {
	t.Parallel()
	hark := harktest.Start(t, harktest.Secret(secret))
	s := newTabs(t, hark.URL)
	s.signIn("ana")
	all := []*browsertest.Tab{s.open(), s.open(), s.open()}
	s.live(all...)
	s.tell("ana", 1)
	s.got(1, 1, all...)

	s.signIn("bob")
	for _, p := range all {
		p.Until("it is bob's", `hark.user === "bob" && hark.status === "live" && hark.loaded.notifications && hark.notifications.length === 0`)
	}
	s.streams(1)
	s.tell("ana", 1)
	s.tell("bob", 1)
	for i, p := range all {
		p.Until("the tab has what is bob's", `got.at(-1) === "3"`)
		if got := browsertest.Eval[[]string](p, "got"); !slices.Equal(got, []string{"1", "3"}) {
			t.Errorf("tab %d got %v", i, got)
		}
	}

	s.session("DELETE", "{}")
	for _, p := range all {
		p.Until("nobody is signed in, and nothing of bob stays", `hark.status === "unauthorized" && hark.notifications.length === 0 && hark.unread === 0`)
	}
	s.streams(0)
	s.signIn("ana")
	for _, p := range all {
		p.Until("it is ana's again", `hark.user === "ana" && hark.status === "live" && hark.unread === 2`)
	}
	s.streams(1)
}
