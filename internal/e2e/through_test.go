package e2e_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hark-jobs/hark/harktest"
	"github.com/hark-jobs/hark/internal/browsertest"
)

// way is a proxy of some kind, and what a tab behind it is to have.
type way struct {
	name     string
	url      string
	encoding string // of the stream
	cut      bool   // its streams are cut again and again
	log      string // where the proxy says that it has cut one
	tab      *browsertest.Tab
	page     *browsertest.Tab
}

// Through proxies with their defaults, that compress all that they can, or cut what is idle: every notification comes once
// and in order by a stream, and the page is live, or says since when it is not.
func TestThroughProxies(t *testing.T) {
	t.Parallel()
	hark := harktest.Start(t, harktest.Secret(secret))
	to := upstream(hark.URL)
	behind := func(directives string) string {
		return nginx(t, "location / {\nproxy_pass http://"+to+";\n"+directives+"\n}")
	}
	quietly, often := filepath.Join(folder(t), "log"), filepath.Join(folder(t), "log")
	ways := []*way{
		{name: "nginx with its defaults", url: behind(""), encoding: "identity"},
		{name: "nginx that compresses", url: behind("proxy_http_version 1.1;\ngzip on;\ngzip_types *;\ngzip_proxied any;"), encoding: "identity"},
		{name: "nginx that compresses in spite of all", encoding: "gzip",
			url: behind("proxy_http_version 1.1;\nproxy_hide_header Content-Encoding;\nproxy_hide_header Cache-Control;\ngzip on;\ngzip_types *;\ngzip_proxied any;")},
		// A stream begins with few bytes, unless it has to catch up; these few are to count, too.
		{name: "Caddy that compresses", url: caddy(t, "encode {\ngzip\nminimum_length 1\n}\nreverse_proxy "+to), encoding: "identity"},
		{name: "Apache that compresses", url: apache(t, "SetOutputFilter DEFLATE\nProxyPass / http://"+to+"/"), encoding: "gzip"},
		// A heartbeat comes every 15 s.
		{name: "nginx that cuts after 25 s of silence", url: behind("proxy_read_timeout 25s;\nerror_log " + quietly + ";"), encoding: "identity", log: quietly},
		{name: "nginx that cuts after 3 s of silence", url: behind("proxy_read_timeout 3s;\nerror_log " + often + ";"), encoding: "identity", cut: true, log: often},
	}
	browser := browsertest.New(t, browsertest.Options{})
	s := &tabs{t: t, browser: browser, service: newClient(t, hark.URL, "service", "notify")}
	for _, w := range ways {
		s.url = w.url
		s.signIn("ana") // whose cookie is that of all ports
		w.tab, w.page = s.open(), browser.Tab(w.url)
		browsertest.Eval[bool](w.page, `window.said = new Set(); new MutationObserver(() => said.add(document.querySelector('[data-testid="connection"]').innerText))
			.observe(document.body, { subtree: true, childList: true, characterData: true }), true`)
		encoding := browsertest.Await[string](w.tab, `(async () => {
			const abort = new AbortController();
			setTimeout(() => abort.abort(), 60_000);
			const { headers } = await fetch("/v1/stream", { signal: abort.signal });
			abort.abort();
			return headers.get("Content-Encoding") ?? "";
		})()`)
		if encoding != w.encoding {
			t.Errorf("%s: the stream's encoding is %q, not %q", w.name, encoding, w.encoding)
		}
	}
	got := func(first, last int) {
		t.Helper()
		for _, w := range ways {
			w.tab.Until(w.name+": all has come", fmt.Sprintf(`got.includes("%d")`, last))
			var want []string
			for i := first; i <= last; i++ {
				want = append(want, fmt.Sprint(i))
			}
			if got, want := browsertest.Eval[string](w.tab, "got.join()"), strings.Join(want, ","); got != want {
				t.Errorf("%s: the tab got %s, not %s", w.name, got, want)
			}
			w.page.Shows(browsertest.ID("unread"), fmt.Sprint(last))
		}
	}
	for _, w := range ways {
		if !w.cut {
			w.page.Until(w.name+": the page is live", connection("live", "Live"))
		}
		w.tab.Until(w.name+": the tab has been live", `statuses.includes("live") && hark.loaded.notifications`)
	}
	s.tell("ana", 5)
	got(1, 5)
	quiet := time.Now()
	for _, w := range ways {
		if w.cut {
			w.page.Until(w.name+": the page says since when it is not live", `[...said].some((it) => /^(Reconnecting|Offline) since \S+/.test(it))`)
		}
	}
	var uncut []*browsertest.Tab
	for _, w := range ways {
		if !w.cut {
			uncut = append(uncut, w.tab)
		}
	}
	s.hearLive(uncut...)
	time.Sleep(time.Until(quiet.Add(26 * time.Second))) // longer than the silence that is allowed
	s.tell("ana", 5)
	got(1, 10)
	for _, w := range ways {
		if w.log != "" {
			if n := strings.Count(readFile(t, w.log), "upstream timed out"); (n > 0) != w.cut {
				t.Errorf("%s: it has cut %d times", w.name, n)
			}
		}
		w.tab.Until(w.name+": the tab is live by a stream", `hark.transport === "stream"`)
	}
}

// A proxy whose hark is away answers 502 at once. The page says so, and since when; after several tries hark is back, and
// all of the time between comes, once and in order.
func TestServerIsAwayBehindAProxy(t *testing.T) {
	t.Parallel()
	hark := harktest.Start(t, harktest.Secret(secret))
	network, between := newRelay(t, hark.URL)
	s := newTabs(t, nginx(t, "location / {\nproxy_pass "+between+";\n}"))
	s.service = newClient(t, hark.URL, "service", "notify")
	s.signIn("ana")
	tab, page := s.open(), s.browser.Tab(s.url)
	s.live(tab)
	page.Until("the page is live", connection("live", "Live"))
	s.tell("ana", 2)
	s.got(1, 2, tab)

	network.Cut(true)
	page.Until("the page says since when it is not live", connection("reconnecting", " since ")+"||"+connection("offline", " since "))
	page.Until("and why", `document.querySelector('[data-testid="connection"]').title.includes("502")`)
	const refused = `performance.getEntriesByType("resource").filter((it) => it.name.includes("/v1/stream") && it.responseStatus === 502).length`
	tab.Until("it has been tried again and again", refused+" >= 3")
	s.tell("ana", 10)
	network.Cut(false)
	page.Until("the page is live again", connection("live", "Live"))
	s.got(1, 12, tab)
	page.Shows(browsertest.ID("unread"), "12")
	s.tell("ana", 1)
	s.got(1, 13, tab)
}
