package e2e_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hark-jobs/hark/client"
	"github.com/hark-jobs/hark/harktest"
	"github.com/hark-jobs/hark/internal/browsertest"
	"github.com/hark-jobs/hark/internal/check"
	"github.com/hark-jobs/hark/internal/tlstest"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/worker"
)

// Behind each proxy, set up as docs/proxies.md says, with TLS: the page is live over HTTP/2, notifications come once and in
// order, by stream and by long polling, files have their length, hark check finds nothing, and the metrics are refused.
func TestProxySnippets(t *testing.T) {
	t.Parallel()
	table := worker.Handle(jobs.Define[struct{}](jobs.Kind{Name: "table"}), func(ctx context.Context, job *worker.Job, _ struct{}) (jobs.Result, error) {
		return jobs.Result{}, job.WriteFile(ctx, "table.csv", "text/csv; charset=utf-8", func(w io.Writer) error {
			_, err := io.WriteString(w, strings.Repeat("1,2,3\r\n", 10_000))
			return err
		})
	})
	hark := harktest.Start(t, harktest.Secret(secret), harktest.Handlers(table))
	files := tlstest.New(t)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(readFile(t, files.CA)))
	transport := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: pool}}
	t.Cleanup(transport.CloseIdleConnections)
	browser := browsertest.New(t, browsertest.Options{Flags: []string{"ignore-certificate-errors"}})
	for _, proxy := range snippetProxies {
		t.Log("behind ", proxy.name)
		addr, plain := proxy.run(t, upstream(hark.URL), &files)
		url := "https://localhost:" + port(addr)
		service, err := client.New(client.Options{URL: url, Token: token(t, "service", "notify"), HTTPClient: &http.Client{Transport: transport}})
		if err != nil {
			t.Fatal(err)
		}
		s := &tabs{t: t, url: url, browser: browser, service: service}
		s.behindSnippet("ana-behind-" + proxy.name)

		bad, other := findings(t, check.Options{URL: url, Token: token(t, "check"), Watch: time.Second, Transport: transport.Clone()})
		if want := []string{"reached", "poll", "at_once", "lasts", "many"}; len(bad) > 0 || !slices.Equal(other, want) {
			t.Errorf("hark check: %v are bad, and besides there are %v, not %v", bad, other, want)
		}
		for to, want := range map[string]int{url + "/metrics": 403, url + "/%6detrics": 403, url + "/readyz": 200} {
			if got := status(t, transport, to); got != want {
				t.Errorf("%s is answered with %d, not %d", to, got, want)
			}
		}
		if plain != "" {
			req := request(t, "http://"+plain+"/v1/kinds?x=1")
			req.Host = "localhost"
			res, err := transport.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
			if to, _ := res.Location(); res.StatusCode != http.StatusPermanentRedirect || to == nil || to.String() != "https://localhost/v1/kinds?x=1" {
				t.Errorf("without TLS: %s to %v", res.Status, to)
			}
		}
	}
}

// behindSnippet does in a browser what users do.
func (s *tabs) behindSnippet(user string) {
	s.t.Helper()
	s.signIn(user)
	tab, page := s.open(), s.browser.Tab(s.url)
	s.live(tab)
	page.Until("the page is live", connection("live", "Live"))
	page.Until("by a stream", `document.querySelector('[data-testid="connection"]').dataset.transport === "stream"`)
	if got := browsertest.Eval[string](page, `performance.getEntriesByType("navigation")[0].nextHopProtocol`); got != "h2" {
		s.t.Errorf("the page came over %q", got)
	}
	s.tell(user, 5)
	s.got(1, 5, tab)
	page.Shows(browsertest.ID("unread"), "5")

	// A poll that waits is answered by what happens then.
	browsertest.Await[bool](tab, `(async () => {
		const poll = async (query) => (await fetch("/v1/events?" + new URLSearchParams(query))).json();
		const { id, stream } = await poll({ wait: 0 });
		window.polled = poll({ after: id, stream, wait: 30 });
		return true;
	})()`)
	s.tell(user, 1)
	if got := browsertest.Await[string](tab, `polled.then(({ events }) => events.filter((it) => it.event === "notification").map((it) => it.data.title).join())`); got != "6" {
		s.t.Errorf("the poll brought %q", got)
	}
	s.got(1, 6, tab)

	browsertest.Await[bool](tab, `hark.enqueue("table", {}).then(() => true)`)
	const link = `document.querySelector('[data-job-id] [data-testid="download"]')`
	page.Until("the file is there", link+"?.getClientRects().length > 0")
	head := browsertest.Await[string](page, `fetch(`+link+`.href).then(async (res) =>
		[res.status, res.headers.get("Content-Encoding"), Number(res.headers.get("Content-Length")) === (await res.arrayBuffer()).byteLength].join())`)
	if head != "200,,true" {
		s.t.Errorf("a file's status, encoding, and whether its length is right: %s", head)
	}
	tab.Close()
	page.Close()
}

// request is a GET that has to be answered, and its answer read, within a minute.
func request(t *testing.T, url string) *http.Request {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	return req
}

// status is that of the answer to a GET.
func status(t *testing.T, transport *http.Transport, url string) int {
	t.Helper()
	res, err := transport.RoundTrip(request(t, url))
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	return res.StatusCode
}

// What docs/proxies.md says that hark check says, it says.
func TestProxySymptoms(t *testing.T) {
	_, table, _ := strings.Cut(readFile(t, "../../docs/proxies.md"), "| users see |")
	source := readFile(t, "../check/check.go") + readFile(t, "../check/stream.go") + readFile(t, "../check/headers.go")
	quoted := regexp.MustCompile(`\| "([^"|]+)"`).FindAllStringSubmatch(table, -1)
	if len(quoted) < 12 {
		t.Errorf("only %d sentences were found", len(quoted))
	}
	for _, match := range quoted {
		if !strings.Contains(source, match[1]) {
			t.Errorf("hark check does not say %q", match[1])
		}
	}
}

// Apache holds a thread for each stream. With the first lines of its snippet more streams are open than without, and
// calls are answered beside them.
func TestManyStreamsBehindApache(t *testing.T) {
	t.Parallel()
	hark := harktest.Start(t, harktest.Secret(secret))
	addr, _ := apacheSnippet(t, upstream(hark.URL), nil)
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	const streams = 250
	for i := range streams {
		req := request(t, "http://"+addr+"/tools/hark/v1/stream")
		req.Header.Set("Authorization", "Bearer "+token(t, fmt.Sprint("user-", i/10)))
		res, err := transport.RoundTrip(req)
		if err != nil {
			t.Fatalf("stream %d: %v", i, err)
		}
		defer res.Body.Close()
		if res.StatusCode != http.StatusOK {
			t.Fatalf("stream %d: %s", i, res.Status)
		}
	}
	answers(t, hark.URL+"/metrics", 200, fmt.Sprintf("\nhark_streams %d\n", streams))
	if got := status(t, transport, "http://"+addr+"/tools/hark/readyz"); got != 200 {
		t.Errorf("a call beside them is answered with %d", got)
	}
}
