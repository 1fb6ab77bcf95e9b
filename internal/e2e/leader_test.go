package e2e_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hark-jobs/hark/harktest"
	"github.com/hark-jobs/hark/internal/browsertest"
)

// A leader that goes, however it goes, is replaced; no tab misses anything or gets it twice, and a tab that comes back has
// what it missed. With HARK_LEADER_ROUNDS it does so several times, and prints how long the replacement took.
func TestLeaderGoes(t *testing.T) {
	rounds := 1
	if text := os.Getenv("HARK_LEADER_ROUNDS"); text != "" {
		var err error
		if rounds, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []leaving{
		{name: "closed", end: func(_ *tabs, p *browsertest.Tab) { p.Close() }},
		{name: "crashed", end: func(_ *tabs, p *browsertest.Tab) { p.Crash() }},
		{name: "discarded", prepare: func(s *tabs, p *browsertest.Tab) func() { return s.browser.Discard(p) }},
		{
			name: "frozen",
			end:  func(_ *tabs, p *browsertest.Tab) { p.Freeze() },
			back: func(_ *tabs, p *browsertest.Tab) { p.Thaw() },
		},
		{ // It has no chance to give the lead up.
			name: "hanging",
			end: func(_ *tabs, p *browsertest.Tab) {
				browsertest.Eval[bool](p, `setTimeout(() => { for (const end = Date.now() + 8000; Date.now() < end;); }), true`)
			},
			back: func(_ *tabs, p *browsertest.Tab) {},
		},
		{
			name: "in the back-forward cache",
			end:  func(s *tabs, p *browsertest.Tab) { p.Navigate(s.url + "/readyz") },
			back: func(_ *tabs, p *browsertest.Tab) {
				p.Back()
				p.Until("it is the page that it was", `Array.isArray(window.got)`)
			},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			if rounds == 1 { // nothing is measured
				t.Parallel()
			}
			w := newWatch(t, harktest.Start(t, harktest.Secret(secret)).URL)
			s := tabsIn(t, w.url, browsertest.New(t, browsertest.Options{Full: true}))
			var took []time.Duration
			for i := range rounds {
				took = append(took, c.run(s, w, fmt.Sprint("ana ", strings.ReplaceAll(c.name, " ", "-"), i)))
			}
			slices.Sort(took)
			t.Logf("| %s | %d | %d | %d | %d |", c.name, len(took), took[0].Milliseconds(), took[len(took)/2].Milliseconds(), took[len(took)-1].Milliseconds())
		})
	}
}

// leaving is a way in which a leader goes and, if it can, comes back.
type leaving struct {
	name      string
	end, back func(s *tabs, p *browsertest.Tab)
	prepare   func(s *tabs, p *browsertest.Tab) (end func()) // in place of end, for what takes a time before the leader goes
}

// run has the leader of a user's tabs go, and returns how long it took until the stream of the next one said hello.
func (c leaving) run(s *tabs, w *watch, user string) time.Duration {
	s.signIn(user)
	all := []*browsertest.Tab{s.open(), s.open(), s.open()}
	s.live(all...)
	leader, others := s.leader(all...)
	first := s.told + 1
	s.tell(user, 2)
	s.got(first, s.told, all...)
	var end func()
	var since time.Time
	for {
		end, since = c.begin(s, leader)
		now, rest := s.leader(all...)
		if now == leader {
			break
		}
		leader, others = now, rest // on a busy machine another tab has taken the lead meanwhile
	}
	began := time.Now()
	end()
	s.tell(user, 2)
	s.got(first, s.told, others...)
	_, _ = s.leader(others...)
	s.live(others...)
	took := w.opened(since).Sub(began)
	if c.back != nil {
		c.back(s, leader)
		s.got(first, s.told, leader)
		s.live(leader)
		s.tell(user, 1)
		s.got(first, s.told, all...)
		s.leader(all...)
	}
	s.streams(1)
	for _, p := range all {
		if p != leader {
			p.Close()
		}
	}
	if c.back != nil {
		leader.Close()
	}
	s.streams(0)
	return took
}

// begin prepares the end of the leader, and returns the time at which it is prepared. If the tab leads after that time, the next leader
// opens its stream after that time, too.
func (c leaving) begin(s *tabs, leader *browsertest.Tab) (end func(), at time.Time) {
	end = func() { c.end(s, leader) }
	if c.prepare != nil {
		end = c.prepare(s, leader)
	}
	return end, time.Now()
}

// watch stands before a hark, and notes when streams begin.
type watch struct {
	t   *testing.T
	url string

	mu    sync.Mutex
	began []time.Time
}

func newWatch(t *testing.T, harkURL string) *watch {
	t.Helper()
	w := &watch{t: t}
	to, err := url.Parse(harkURL)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(&httputil.ReverseProxy{
		FlushInterval: -1,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(to)
			r.Out.Host = r.In.Host
		},
		ModifyResponse: func(r *http.Response) error {
			if r.Request.URL.Path == "/v1/stream" && r.StatusCode == http.StatusOK {
				r.Body = &watched{r.Body, w, sync.Once{}}
			}
			return nil
		},
	})
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	w.url = server.URL
	return w
}

// opened returns when the first stream since then said hello.
func (w *watch) opened(since time.Time) time.Time {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, at := range w.began {
		if at.After(since) {
			return at
		}
	}
	w.t.Fatal("no stream was opened")
	return time.Time{}
}

// watched is the body of a stream.
type watched struct {
	io.ReadCloser
	w     *watch
	first sync.Once
}

// Read implements [io.Reader].
func (b *watched) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.first.Do(func() {
		b.w.mu.Lock()
		defer b.w.mu.Unlock()
		b.w.began = append(b.w.began, time.Now())
	})
	return n, err
}
