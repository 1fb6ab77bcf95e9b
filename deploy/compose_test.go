package deploy_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/cookiejar"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hark-jobs/hark/client"
	"github.com/hark-jobs/hark/internal/browsertest"
	"github.com/hark-jobs/hark/jobs"
	"github.com/xuri/excelize/v2"
)

// The test runs docker-compose.yml: everything becomes healthy, an export goes through the proxy, containers are killed, and nothing accepted is lost,
// also when the project is taken down and started again. With HARK_COMPOSE=long, as in `make compose-test`, every service is killed, restarted, cut off
// and paused, with two tabs of a browser open.
func TestCompose(t *testing.T) {
	t.Parallel() // it waits for containers most of the time
	compose, ok := engine(t)
	if !ok {
		t.Log("NO DOCKER ENGINE ANSWERS: docker-compose.yml was not run; TestComposeFile has read it")
		return
	}
	var p *project
	begin := time.Now()
	t.Logf("with %s", strings.Join(compose, " "))
	p = newProject(t, compose)
	t.Logf("images are built after %.1fs", time.Since(begin).Seconds())
	p.step("up, and everything is healthy", p.up)

	token := p.token("ana", "notify")
	c := p.client(token)
	l := newLedger(t, "ana", c)
	p.step("what operators see stays inside", p.checkDoors)
	p.step("a user is signed in, and all their streams are at one notifier", p.checkRoutes)
	p.step("an export through the proxy", func() { p.export(c) })
	r := l.read(t)
	if p.other.Load() > 0 || p.http2.Load() == 0 {
		t.Errorf("%d requests went over HTTP/2 and %d did not", p.http2.Load(), p.other.Load())
	}

	if os.Getenv("HARK_COMPOSE") == "long" {
		p.long(l)
	} else {
		p.step("a worker and a NATS node are killed", func() {
			p.run(nil, "docker", "kill", p.id("worker-1"), p.id("nats-2"))
			var posts sync.WaitGroup
			for range 10 {
				posts.Go(l.post)
			}
			posts.Wait()
			p.export(c)
		})
	}

	p.step("down", func() { p.do("down") })
	p.step("up again, and everything is healthy", p.up)
	c = p.client(token) // the secret that signed it was kept
	l.c = c
	p.step("nothing that was accepted is lost", func() { l.complete(p) })
	p.step("a stream had it once each", func() { r.complete(p, l) })
	p.step("one more export", func() { p.export(c) })

	if os.Getenv("HARK_COMPOSE") == "long" {
		fresh := p.restored()
		l.c = fresh.client(fresh.token("ana", "notify"))
		fresh.step("nothing that was accepted is lost by the restore", func() { l.complete(fresh) })
		fresh.step("an export", func() { fresh.export(l.c) })
	}
}

// checkDoors checks which paths the proxy refuses, and which it serves.
func (p *project) checkDoors() {
	for path, want := range map[string]int{
		"/metrics": http.StatusNotFound, "/debug/pprof/": http.StatusNotFound, "/readyz": http.StatusOK, "/": http.StatusOK,
		"/v1/jobs": http.StatusUnauthorized,
	} {
		if got := p.get(path); got != want {
			p.t.Errorf("%s is answered with %d, want %d", path, got, want)
		}
	}
	// Secrets are in files that no other service can read, and not in the list of processes.
	secret := strings.TrimSpace(p.exec("postgres", "cat", "/secrets/password"))
	if len(secret) < 32 {
		p.t.Errorf("the password of PostgreSQL has %d characters", len(secret))
	}
	for _, c := range p.containers() {
		if c.state != "running/0" {
			continue
		}
		if shown := p.run(nil, "docker", "top", c.id, "-eo", "pid,args") + p.run(nil, "docker", "inspect", c.id); strings.Contains(shown, secret) {
			p.t.Errorf("%s shows the password of PostgreSQL", c.service)
		}
	}
}

// checkRoutes opens six streams of a user who is signed in by cookie, and checks which notifier has them.
func (p *project) checkRoutes() {
	jar, err := cookiejar.New(nil)
	if err != nil {
		p.t.Fatal(err)
	}
	browser := &http.Client{Transport: p.http.Transport, Jar: jar}
	ctx, cancel := context.WithTimeout(p.t.Context(), 2*time.Minute)
	defer cancel()
	do := func(method, path, token string) *http.Response {
		req, err := http.NewRequestWithContext(ctx, method, p.url+path, http.NoBody)
		if err != nil {
			p.t.Fatal(err)
		}
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
		req.Header.Set("Sec-Fetch-Site", "same-origin")
		res, err := browser.Do(req)
		if err != nil {
			p.t.Fatal(err)
		}
		if res.StatusCode != http.StatusOK {
			p.t.Fatalf("%s %s is answered with %s", method, path, res.Status)
		}
		return res
	}
	res := do(http.MethodPost, "/v1/session", p.token("bob", ""))
	res.Body.Close()
	secure := make(map[string]bool)
	for _, cookie := range res.Cookies() {
		secure[cookie.Name] = cookie.Secure
	}
	if !secure["hark_token"] || !secure["hark_route"] {
		p.t.Errorf("cookies, and whether they are Secure: %v; want hark_token and hark_route", secure)
	}
	var streams []*http.Response
	for range 6 {
		streams = append(streams, do(http.MethodGet, "/v1/stream", ""))
	}
	one, two := p.metric("notifier-1:4280", "hark_streams"), p.metric("notifier-2:4280", "hark_streams")
	if !(one == "6" && two == "0" || one == "0" && two == "6") {
		p.t.Errorf("the six streams of a user are at notifiers as %s and %s", one, two)
	}
	for _, res := range streams {
		res.Body.Close()
	}
}

// export exports a dataset of the sample shop, waits on the event stream for the notification of its end, and opens the file.
func (p *project) export(c *client.Client) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), 2*time.Minute)
	defer cancel()
	notified, open := make(chan string, 100), make(chan struct{})
	go func() {
		defer close(notified)
		opened := sync.OnceFunc(func() { close(open) })
		for event, err := range c.Stream(ctx, client.StreamOptions{}) {
			if err != nil {
				return
			}
			if event.Type == client.EventHello {
				opened()
			}
			if n, err := event.Notification(); event.Type == client.EventNotification && err == nil {
				select {
				case notified <- n.JobID + " " + n.Type:
				case <-ctx.Done():
				}
			}
		}
	}()
	select {
	case <-open:
	case <-ctx.Done():
		p.t.Fatal("the event stream does not open")
	}
	job, err := c.Enqueue(ctx, client.Request{Kind: "export", Params: json.RawMessage(`{"dataset":"products","format":"xlsx"}`)})
	if err != nil {
		p.t.Fatal(err)
	}
	p.ended(ctx, c, job.ID, notified)
	var file bytes.Buffer
	if _, err := c.Download(ctx, job.ID, &file); err != nil {
		p.t.Fatal(err)
	}
	checkWorkbook(p.t, &file)
}

// ended waits for the end of a job on the event stream, and also in the inbox. A notification is never lost, but its live copy is if a NATS server
// dies after storing and before sending it: the stream gets it with the next one.
func (p *project) ended(ctx context.Context, c *client.Client, id string, notified <-chan string) {
	p.t.Helper()
	look := time.NewTicker(5 * time.Second)
	defer look.Stop()
	for {
		select {
		case text, open := <-notified:
			if job, kind, _ := strings.Cut(text, " "); job == id {
				if kind != "job.succeeded" {
					p.t.Fatalf("the export ended with %s", kind)
				}
				return
			}
			if !open {
				notified = nil
			}
		case <-look.C:
			for n, err := range c.Notifications(ctx, client.NotificationsQuery{Limit: 100}) {
				if err == nil && n.JobID == id && n.Type == "job.succeeded" {
					p.t.Log("the end of the export is in the inbox, and did not arrive live")
					return
				}
			}
		case <-ctx.Done():
			now, err := c.Job(p.t.Context(), id)
			p.t.Fatalf("the end of the export was not notified: the job is %+v (%v)", now, err)
		}
	}
}

func checkWorkbook(t *testing.T, file *bytes.Buffer) {
	t.Helper()
	book, err := excelize.OpenReader(file)
	if err != nil {
		t.Fatal(err)
	}
	defer book.Close()
	rows, err := book.GetRows(book.GetSheetName(0))
	if err != nil {
		t.Fatal(err)
	}
	if len(rows) < 100 {
		t.Errorf("the workbook has %d rows", len(rows))
	}
}

// long kills, restarts, cuts off and pauses the services while a ledger is kept and two tabs are open.
func (p *project) long(l *ledger) {
	b := browsertest.New(p.t, browsertest.Options{Flags: []string{"ignore-certificate-errors"}, Limit: 20 * time.Minute})
	tabs := p.openTabs(b)
	stop := l.keep()
	defer stop()

	for _, service := range []string{"nats-2", "notifier-1", "worker-1", "nats-1", "nats-3", "notifier-2", "worker-2"} {
		p.step("docker kill "+service+", and start", func() {
			id := p.id(service)
			p.run(nil, "docker", "kill", id)
			p.goesOn(l)
			p.run(nil, "docker", "start", id)
			p.healthy()
		})
	}
	for _, service := range []string{"nats-1", "postgres", "notifier-1", "worker-1", "proxy"} {
		p.step("the main process of "+service+" is killed, and restarted", func() { p.crash(service) })
		p.goesOn(l)
	}
	for _, service := range []string{"nats-1", "nats-2", "nats-3", "postgres", "notifier-1", "notifier-2", "worker-1", "worker-2", "proxy"} {
		p.step("restart "+service, func() {
			p.do("restart", service)
			p.goesOn(l)
			p.healthy()
		})
	}
	for _, service := range []string{"nats-1", "nats-2", "nats-3", "postgres", "notifier-1", "worker-1"} {
		p.step("docker network disconnect "+service, func() { p.disconnect(service, l) })
	}
	for _, service := range []string{"nats-1", "nats-2", "nats-3", "notifier-2", "worker-2"} {
		p.step("docker pause "+service, func() { p.pause(service, l) })
	}
	stop()
	p.step("nothing that was accepted is lost", func() { l.complete(p) })
	p.step("an export in a browser's two tabs", func() { p.useTabs(tabs) })
}

// goesOn waits until three more entries were accepted.
func (p *project) goesOn(l *ledger) {
	p.t.Helper()
	want := l.accepted() + 3
	p.until("hark goes on", 2*time.Minute, func() bool { return l.accepted() >= want }, func() string { return "nothing is accepted" })
}

// crash kills a container's main process from outside, and waits until Docker has restarted it.
func (p *project) crash(service string) {
	p.t.Helper()
	id := p.id(service)
	before := strings.TrimSpace(p.run(nil, "docker", "inspect", "--format", "{{.RestartCount}}", id))
	pid, err := strconv.Atoi(strings.TrimSpace(p.run(nil, "docker", "inspect", "--format", "{{.State.Pid}}", id)))
	if err != nil || pid < 2 {
		p.t.Fatalf("%s has no process: %v", service, err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		p.t.Fatalf("kill %d of %s: %v", pid, service, err)
	}
	p.until(service+" is restarted", time.Minute, func() bool {
		return strings.TrimSpace(p.run(nil, "docker", "inspect", "--format", "{{.RestartCount}}", id)) != before
	}, func() string { return "the restart policy does nothing" })
	p.healthy()
}

// openTabs signs a browser in and opens the page in two tabs.
func (p *project) openTabs(b *browsertest.Browser) []*browsertest.Tab {
	p.t.Helper()
	one := b.Tab(p.url)
	one.Fill(browsertest.ID("sign-in-token"), p.token("eve", ""))
	one.Click(browsertest.ID("sign-in-with-token"))
	one.Shows(browsertest.ID("user"), "eve")
	tabs := []*browsertest.Tab{one, b.Tab(p.url)}
	for _, tab := range tabs {
		tab.Shows(browsertest.ID("user"), "eve")
		tab.Until("the stream is live", tabLive)
	}
	return tabs
}

const tabLive = `document.querySelector('[data-testid="connection"]').dataset.state === "live"`

// useTabs exports in one tab, sees it in both, and opens the file.
func (p *project) useTabs(tabs []*browsertest.Tab) {
	p.t.Helper()
	for _, tab := range tabs {
		tab.Until("the stream is live again", tabLive)
	}
	one := tabs[0]
	one.Fill(browsertest.ID("param-dataset"), "products")
	one.Click(browsertest.ID("export"))
	for _, tab := range tabs {
		tab.Until("the export succeeds", `!!document.querySelector('[data-job-id][data-state="`+string(jobs.Succeeded)+`"]')`)
		tab.Shows(browsertest.ID("unread"), "1")
	}
	tabs[len(tabs)-1].Shows(browsertest.ID("toast"), "Products") // the tab that the user looks at
	dir := p.t.TempDir()
	one.Downloads(dir)
	one.Click("[data-job-id] " + browsertest.ID("download"))
	data, err := os.ReadFile(browsertest.Downloaded(p.t, dir, "*.xlsx"))
	if err != nil {
		p.t.Fatal(err)
	}
	checkWorkbook(p.t, bytes.NewBuffer(data))
}
