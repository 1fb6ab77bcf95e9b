package e2e_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/hark-jobs/hark/client"
	"github.com/hark-jobs/hark/internal/harkproc"
	"github.com/hark-jobs/hark/internal/logtest"
	"github.com/hark-jobs/hark/internal/polltest"
	"github.com/hark-jobs/hark/jobs"
)

// runningJob enqueues a job that takes an hour, and waits until it runs.
func runningJob(t *testing.T, c *client.Client) jobs.Job {
	t.Helper()
	job, err := c.Enqueue(t.Context(), client.Request{Kind: "sleep", Params: json.RawMessage(`{"seconds":3600}`), MaxAttempts: 1})
	if err != nil {
		t.Fatal(err)
	}
	return awaitState(t, c, job.ID, jobs.Running)
}

func awaitState(t *testing.T, c *client.Client, id string, state jobs.State) jobs.Job {
	t.Helper()
	return awaitJob(t, c, id, string(state), func(j jobs.Job) bool { return j.State == state })
}

// awaitJob polls a job until ok accepts it. what names the condition.
func awaitJob(t *testing.T, c *client.Client, id, what string, ok func(jobs.Job) bool) (job jobs.Job) {
	t.Helper()
	polltest.Nil(t, "the job is "+what, func() (err error) {
		if job, err = c.Job(t.Context(), id); err == nil && !ok(job) {
			err = fmt.Errorf("it is %+v", job)
		}
		return err
	})
	return job
}

// awaitInbox waits until an inbox has at least n notifications, and returns its first page.
func awaitInbox(t *testing.T, c *client.Client, n int) (page client.NotificationPage) {
	t.Helper()
	polltest.Nil(t, "the inbox is filled", func() (err error) {
		if page, err = c.NotificationPage(t.Context(), client.NotificationsQuery{}); err == nil && len(page.Notifications) < n {
			err = fmt.Errorf("%d notifications of %d are in %+v", len(page.Notifications), n, page)
		}
		return err
	})
	return page
}

// SIGTERM: streams get a time to come back; the running job goes back to the queue without using up its
// only attempt; the process ends by itself, with open streams and all. Started again, everything is there.
func TestStop(t *testing.T) {
	t.Parallel()
	addr, data := harkproc.FreeAddr(t), t.TempDir()
	url := "http://" + addr
	p := harkproc.Start(t, t.Output(), "serve", "--listen", addr, "--data", data, "--jwt-secret", secret, "--drain", "1s")
	harkproc.Ready(t, url)
	ana := newClient(t, url, "ana")
	job := runningJob(t, ana)
	req, err := http.NewRequestWithContext(t.Context(), "GET", url+"/v1/stream", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token(t, "ana"))
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer http.DefaultClient.CloseIdleConnections()
	defer res.Body.Close()

	if code := p.Stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	var rest bytes.Buffer
	rest.ReadFrom(res.Body) // until the stream ends, however it does
	_, bye, found := strings.Cut(rest.String(), "\nretry: ")
	if !found || !strings.Contains(bye, `event: bye`) || !strings.Contains(bye, `"code":"shutting_down"`) {
		t.Errorf("the stream ended with %q", rest.String())
	}

	p.Restart()
	harkproc.Ready(t, url)
	again := awaitState(t, ana, job.ID, jobs.Running)
	if again.Attempt != 1 || again.Lost != 0 {
		t.Errorf("the job runs again as %+v", again)
	}
	if _, err := ana.Cancel(t.Context(), job.ID); err != nil {
		t.Fatal(err)
	}
	awaitState(t, ana, job.ID, jobs.Cancelled)
}

// A second signal ends the process at once, in the middle of the grace. Nothing is lost: the job runs again.
func TestStopAtOnce(t *testing.T) {
	t.Parallel()
	addr, data, out := harkproc.FreeAddr(t), t.TempDir(), new(logtest.Buffer)
	url := "http://" + addr
	p := harkproc.Start(t, out, "serve", "--listen", addr, "--data", data, "--jwt-secret", secret, "--drain", "10m", "--lease", "2s")
	harkproc.Ready(t, url)
	ana := newClient(t, url, "ana")
	job := runningJob(t, ana)
	p.Signal(syscall.SIGTERM)
	polltest.Until(t, "the first signal has an effect", func() bool { return strings.Contains(out.String(), "Stopping") })
	if code := p.Stop(); code != 128+int(syscall.SIGTERM) {
		t.Errorf("exit code %d", code)
	}
	p.Restart()
	harkproc.Ready(t, url)
	awaitJob(t, ana, job.ID, "running again", func(j jobs.Job) bool { return j.State == jobs.Running && j.Lost == 1 && j.Attempt == 1 })
	if _, err := ana.Cancel(t.Context(), job.ID); err != nil {
		t.Fatal(err)
	}
	awaitState(t, ana, job.ID, jobs.Cancelled)
}

// What is wrong with how hark is started is one sentence, and exit code 1.
func TestStartErrors(t *testing.T) {
	t.Parallel()
	addr, data := harkproc.FreeAddr(t), t.TempDir()
	harkproc.Start(t, t.Output(), "serve", "--listen", addr, "--data", data)
	harkproc.Ready(t, "http://"+addr)
	bad := filepath.Join(t.TempDir(), "hark.yaml")
	err := os.WriteFile(bad, []byte("databases:\n  shop: { driver: oracle, dsn: x }\n"), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"port taken":  {[]string{"serve", "--listen", addr, "--data", t.TempDir()}, "Another program listens on " + addr},
		"data in use": {[]string{"serve", "--listen", "127.0.0.1:0", "--data", data}, "Another hark uses the data folder " + data},
		"bad config":  {[]string{"serve", "--listen", "127.0.0.1:0", "--data", t.TempDir(), "--config", bad}, "hark.yaml:2:"},
		"not local":   {[]string{"serve", "--listen", "0.0.0.0:0", "--data", t.TempDir()}, "--jwt-secret"},
		"short key":   {[]string{"serve", "--listen", "127.0.0.1:0", "--data", t.TempDir(), "--jwt-secret", "short"}, "32"},
	} {
		t.Run(name, func(t *testing.T) {
			out := new(logtest.Buffer)
			p := harkproc.Start(t, out, c.args...)
			if code := p.Wait(); code != 1 {
				t.Errorf("exit code %d", code)
			}
			said := strings.TrimSpace(out.String())
			if lines := strings.Split(said, "\n"); !strings.HasPrefix(lines[len(lines)-1], "hark: ") || !strings.Contains(lines[len(lines)-1], c.want) {
				t.Errorf("it said %q, not %q", said, c.want)
			}
			if strings.Contains(said, "goroutine") {
				t.Errorf("it printed a stack: %s", said)
			}
		})
	}
}

// The command line does the main job from a terminal, without any configuration.
func TestExportCommand(t *testing.T) {
	t.Parallel()
	addr, data := harkproc.FreeAddr(t), t.TempDir()
	harkproc.Start(t, t.Output(), "serve", "--listen", addr, "--data", data)
	harkproc.Ready(t, "http://"+addr)
	file, out := filepath.Join(t.TempDir(), "products.xlsx"), new(logtest.Buffer)
	p := harkproc.Start(t, out, "export", "products", "-o", file, "--url", "http://"+addr, "--data", data)
	if code := p.Wait(); code != 0 {
		t.Fatalf("exit code %d: %s", code, out)
	}
	checkWorkbook(t, file, 301)
	p = harkproc.Start(t, out, "export", "orders", "--param", "from=yesterday", "--url", "http://"+addr, "--data", data)
	if code := p.Wait(); code == 0 || !strings.Contains(out.String(), "from") {
		t.Errorf("exit code %d: %s", code, out)
	}
}
