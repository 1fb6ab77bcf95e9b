package e2e_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/hark-jobs/hark/harktest"
	"github.com/hark-jobs/hark/internal/browsertest"
)

// Behind a proxy that holds every answer back until it is whole, no event arrives on a stream. The lists are there at once, and after
// two such streams events come by long polling: each once, in order, in every tab; also those of the time before.
func TestBehindABufferingProxy(t *testing.T) {
	t.Parallel()
	hark := harktest.Start(t, harktest.Secret(secret))
	s := newTabs(t, nginx(t, "location / {\nproxy_pass "+hark.URL+";\nproxy_set_header Host $proxy_host;\nproxy_http_version 1.1;\n"+
		"proxy_buffering on;\nproxy_ignore_headers X-Accel-Buffering;\nproxy_read_timeout 1h;\n}"))
	s.service = newClient(t, hark.URL, "service", "notify")
	s.signIn("ana")
	s.tell("ana", 1)
	one, two := s.open(), s.open()
	page := s.browser.Tab(s.url)
	for _, p := range []*browsertest.Tab{one, two} {
		p.Until("the lists are there before any stream", `hark.status !== "live" && hark.loaded.jobs && hark.notifications.length === 1`)
	}
	s.live(one, two)
	page.Until("the page polls", `document.querySelector('[data-testid="connection"]').dataset.transport === "polling"`)
	s.tell("ana", 20)
	s.got(2, 21, one, two)
	page.Shows(browsertest.ID("unread"), "21")
	s.hearLive(one, two)
}

// Where a browser has no Web Locks, as on a plain HTTP address in a LAN, each tab has its own connection. Four have a
// stream; more than that poll in short calls, so that the six connections of the browser are enough for all calls.
func TestTabsWithoutLocks(t *testing.T) {
	t.Parallel()
	hark := harktest.Start(t, harktest.Secret(secret))
	s := &tabs{
		t: t, url: strings.Replace(hark.URL, "127.0.0.1", "hark.test", 1), service: newClient(t, hark.URL, "service", "notify"),
		browser: browsertest.New(t, browsertest.Options{Hosts: []string{"hark.test"}}),
	}
	s.signIn("ana")
	var all []*browsertest.Tab
	for i := range 8 {
		all = append(all, s.open())
		if browsertest.Eval[bool](all[i], "Boolean(navigator.locks)") {
			t.Fatal("the page has Web Locks, so this test tests nothing")
		}
		s.live(all[i])
	}
	streams := 0
	for _, p := range all {
		if browsertest.Eval[string](p, "hark.transport") == "stream" {
			streams++
		}
	}
	if streams != 4 {
		t.Errorf("%d of %d tabs have a stream, want 4", streams, len(all))
	}
	for i, p := range all {
		took := browsertest.Await[float64](p, `(async () => { const began = performance.now(); await hark.kinds(); return performance.now() - began })()`)
		if took > 10_000 {
			t.Errorf("a call of tab %d took %.0f ms", i, took)
		}
	}
	s.tell("ana", 3)
	s.got(1, 3, all...)
	s.hearLive(all...)
	// A place that becomes free is taken.
	for _, p := range all[:4] {
		p.Close()
	}
	for i, p := range all[4:] {
		p.Until(fmt.Sprintf("tab %d has a stream", i+4), `hark.transport === "stream"`)
	}
}
