package e2e_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hark-jobs/hark/client"
	"github.com/hark-jobs/hark/internal/harkproc"
	"github.com/hark-jobs/hark/internal/joblog"
	"github.com/hark-jobs/hark/internal/logtest"
	"github.com/hark-jobs/hark/internal/pgtest"
	"github.com/hark-jobs/hark/internal/polltest"
	"github.com/hark-jobs/hark/jobs"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// get returns status and body of one call, 0 if nobody answers.
func get(t *testing.T, url string) (int, string) {
	t.Helper()
	res, err := http.Get(url)
	if err != nil {
		return 0, err.Error()
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

// answers waits until the call is answered with this status and with these words in it.
func answers(t *testing.T, url string, status int, words string) {
	t.Helper()
	polltest.Nil(t, fmt.Sprintf("%s answers %d with %q", url, status, words), func() error {
		if code, body := get(t, url); code != status || !strings.Contains(body, words) {
			return fmt.Errorf("it answers %d %s", code, body)
		}
		return nil
	})
}

func writeFile(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Notifier and worker start before everything that they need. Each answers its health checks from its first moment, and
// waits: for NATS, for its login, for PostgreSQL. When all of it has come, a job runs, and its user's inbox has it.
func TestAnyOrder(t *testing.T) {
	t.Parallel()
	dir, natsAddr, web, health := t.TempDir(), harkproc.FreeAddr(t), harkproc.FreeAddr(t), harkproc.FreeAddr(t)
	pg := pgtest.Start(t)
	database := writeFile(t, filepath.Join(dir, "database"), pg.DSN(t)+"\n")
	pg.Stop(t)
	password := writeFile(t, filepath.Join(dir, "password"), "yesterday's\n")
	key := writeFile(t, filepath.Join(dir, "jwt-secret"), secret+"\n")
	connection := []string{"--nats", "nats://" + natsAddr, "--nats-user", "hark", "--nats-password-file", password}
	out := new(logtest.Buffer)
	notifier := harkproc.Start(t, out, append([]string{"notifier", "--listen", web, "--data", filepath.Join(dir, "n"),
		"--jwt-secret-file", key, "--database-file", database, "--drain", "1s"}, connection...)...)
	work := harkproc.Start(t, out, append([]string{"worker", "--listen", health, "--data", filepath.Join(dir, "w"), "--drain", "1s"}, connection...)...)
	both := []string{"http://" + web, "http://" + health}
	for _, url := range both {
		answers(t, url+"/livez", 200, "ok")
		answers(t, url+"/readyz", 503, `"waiting_for":"NATS: unavailable"`)
		answers(t, url+"/metrics", 200, "hark_build_info")
	}
	answers(t, "http://"+web+"/v1/jobs", 503, `"code":"starting"`)

	// NATS comes, with another password than the one they have.
	right := writeFile(t, filepath.Join(dir, "right"), "t0day's\n")
	harkproc.Start(t, t.Output(), "serve", "--listen", "127.0.0.1:0", "--data", filepath.Join(dir, "s"), "--nats-listen", natsAddr,
		"--nats-user", "hark", "--nats-password-file", right, "--drain", "1s")
	for _, url := range both {
		answers(t, url+"/readyz", 503, `"waiting_for":"NATS: authorization refused"`)
		answers(t, url+"/livez", 200, "ok")
	}
	writeFile(t, password, "t0day's\n")
	answers(t, "http://"+health+"/readyz", 200, `{"status":"ready","parts":{"nats":"ok","queue":"ok","worker":"ok"}}`)
	answers(t, "http://"+web+"/readyz", 200, `"status":"degraded"`)
	pg.Start(t)
	answers(t, "http://"+web+"/readyz", 200, `{"status":"ready","parts":{"inbox":"ok","nats":"ok","queue":"ok"}}`)

	ana := newClient(t, "http://"+web, "ana")
	job, err := ana.Enqueue(t.Context(), client.Request{Kind: "sleep", Params: json.RawMessage(`{"seconds":0}`)})
	if err != nil {
		t.Fatal(err)
	}
	awaitState(t, ana, job.ID, jobs.Succeeded)
	if page := awaitInbox(t, ana, 1); len(page.Notifications) != 1 || page.Notifications[0].JobID != job.ID {
		t.Fatalf("the inbox is %+v", page)
	}
	for name, p := range map[string]*harkproc.Process{"notifier": notifier, "worker": work} {
		if code := p.Stop(); code != 0 {
			t.Errorf("the %s ends with exit code %d", name, code)
		}
	}
	text := out.String()
	for _, want := range []string{"uthorization", "NATS connection failed"} {
		if !strings.Contains(text, want) {
			t.Errorf("the log lacks %q:\n%s", want, text)
		}
	}
	// What is waited for is one line at once and then one a minute, of each process, connection and reason.
	logged := make(map[string]int)
	for line := range strings.Lines(text) {
		_, what, _ := strings.Cut(line, " ") // without the time
		logged[what]++
		if logged[what] == 3 && strings.Contains(what, "NATS connection failed") {
			t.Errorf("two processes say more than twice %s:\n%s", what, text)
		}
	}
	if strings.Contains(text, "t0day's") || strings.Contains(text, secret) {
		t.Errorf("the log holds a secret:\n%s", text)
	}
}

// A process that waits can be stopped, and that is no failure.
func TestStopWhileWaiting(t *testing.T) {
	t.Parallel()
	health, out := harkproc.FreeAddr(t), new(logtest.Buffer)
	p := harkproc.Start(t, out, "worker", "--listen", health, "--data", t.TempDir(), "--nats", "nats://127.0.0.1:1", "--drain", "1s")
	answers(t, "http://"+health+"/readyz", 503, "waiting_for")
	if code := p.Stop(); code != 0 {
		t.Errorf("exit code %d: %s", code, out)
	}
}

// A login that is refused while a worker runs does not end it: it takes no jobs, says why, and goes on when the login is accepted
// again.
func TestLoginRefusedMeanwhile(t *testing.T) {
	t.Parallel()
	dir, natsAddr, health := t.TempDir(), harkproc.FreeAddr(t), harkproc.FreeAddr(t)
	first, second := writeFile(t, filepath.Join(dir, "first"), "first\n"), writeFile(t, filepath.Join(dir, "second"), "second\n")
	server := func(password string) *harkproc.Process {
		return harkproc.Start(t, t.Output(), "serve", "--listen", "127.0.0.1:0", "--data", filepath.Join(dir, "s"), "--nats-listen", natsAddr,
			"--nats-user", "hark", "--nats-password-file", password, "--drain", "1s")
	}
	s := server(first)
	out := new(logtest.Buffer)
	harkproc.Start(t, out, "worker", "--listen", health, "--data", filepath.Join(dir, "w"), "--nats", "nats://"+natsAddr,
		"--nats-user", "hark", "--nats-password-file", first, "--drain", "1s")
	answers(t, "http://"+health+"/readyz", 200, "ready")
	s.Stop()
	s = server(second)
	answers(t, "http://"+health+"/readyz", 503, `"nats":"authorization refused"`)
	answers(t, "http://"+health+"/livez", 200, "ok")
	if !strings.Contains(out.String(), "uthorization") {
		t.Errorf("the log does not say why:\n%s", out)
	}
	s.Stop()
	server(first)
	answers(t, "http://"+health+"/readyz", 200, "ready")
}

// A worker and a notifier that are started without the flags of the server leave what it has set as it is.
func TestOpeningIsNotConfiguring(t *testing.T) {
	t.Parallel()
	dir, natsAddr := t.TempDir(), harkproc.FreeAddr(t)
	serve := []string{"serve", "--listen", "127.0.0.1:0", "--data", filepath.Join(dir, "s"), "--nats-listen", natsAddr, "--drain", "1s"}
	s := harkproc.Start(t, t.Output(), append(serve, "--max-age", "720h", "--file-age", "240h", "--lease", "7s")...)
	nc, err := nats.Connect("nats://"+natsAddr, nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	// settings waits until the server has all of it, and returns how it is kept.
	settings := func() (maxAge, fileAge, lease time.Duration) {
		t.Helper()
		polltest.Nil(t, "the server has all of it", func() error {
			stream, err := js.Stream(t.Context(), joblog.DefaultNamespace.LogStream())
			if err != nil {
				return err
			}
			files, err1 := js.Stream(t.Context(), joblog.DefaultNamespace.FilesStream())
			consumer, err2 := stream.Consumer(t.Context(), joblog.DefaultNamespace.WorkerConsumer("sleep"))
			if err1 == nil && err2 == nil {
				maxAge, fileAge, lease = stream.CachedInfo().Config.MaxAge, files.CachedInfo().Config.MaxAge-24*time.Hour, consumer.CachedInfo().Config.AckWait
			}
			return errors.Join(err1, err2)
		})
		return maxAge, fileAge, lease
	}
	check := func(after string, wantMaxAge, wantFileAge, wantLease time.Duration) {
		t.Helper()
		maxAge, fileAge, lease := settings()
		if maxAge != wantMaxAge || fileAge != wantFileAge || lease != wantLease {
			t.Errorf("after %s: max age %v, file age %v, lease %v; want %v, %v, %v", after, maxAge, fileAge, lease, wantMaxAge, wantFileAge, wantLease)
		}
	}
	const hour = time.Hour
	check("hark serve", 720*hour, 240*hour, 7*time.Second)

	health, web, out := harkproc.FreeAddr(t), harkproc.FreeAddr(t), new(logtest.Buffer)
	harkproc.Start(t, t.Output(), "worker", "--nats", "nats://"+natsAddr, "--listen", health, "--data", filepath.Join(dir, "w"), "--drain", "1s")
	answers(t, "http://"+health+"/readyz", 200, "ready")
	check("a worker without flags", 720*hour, 240*hour, 7*time.Second)
	harkproc.Start(t, out, "notifier", "--nats", "nats://"+natsAddr, "--listen", web, "--data", filepath.Join(dir, "n"), "--drain", "1s",
		"--database", filepath.Join(dir, "inbox.db"), "--max-age", "1h", "--replicas", "3")
	answers(t, "http://"+web+"/readyz", 200, "ready")
	check("a notifier with other flags", 720*hour, 240*hour, 7*time.Second)
	if n := strings.Count(out.String(), "change them with hark setup"); n != 1 {
		t.Errorf("the difference is logged %d times:\n%s", n, out)
	}

	if code := harkproc.Start(t, t.Output(), "setup", "--nats", "nats://"+natsAddr, "--max-age", "1000h").Wait(); code != 0 {
		t.Errorf("hark setup: exit code %d", code)
	}
	check("hark setup", 1000*hour, 240*hour, 7*time.Second)
	s.Stop()
	s = harkproc.Start(t, t.Output(), serve...)
	check("hark serve without flags", 1000*hour, 240*hour, 7*time.Second)
	s.Stop()
	harkproc.Start(t, t.Output(), append(serve, "--lease", "9s")...)
	polltest.Until(t, "hark serve changes its own server's lease", func() bool {
		_, _, lease := settings()
		return lease == 9*time.Second
	})
	check("hark serve with a flag", 1000*hour, 240*hour, 9*time.Second)
}
