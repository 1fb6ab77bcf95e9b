package e2e_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hark-jobs/hark/client"
	"github.com/hark-jobs/hark/internal/harkproc"
	"github.com/hark-jobs/hark/internal/logtest"
	"github.com/hark-jobs/hark/internal/polltest"
	"github.com/hark-jobs/hark/jobs"
)

// examples/service does the same over HTTP and over NATS, with examples/report as its worker: one job and one notification for an
// order, also when the program is run again the other way.
func TestServiceExample(t *testing.T) {
	t.Parallel()
	dir, web, natsAddr, out := t.TempDir(), harkproc.FreeAddr(t), harkproc.FreeAddr(t), new(logtest.Buffer)
	key := writeFile(t, filepath.Join(dir, "jwt-secret"), secret+"\n")
	harkproc.Start(t, out, "serve", "--listen", web, "--data", filepath.Join(dir, "data"), "--jwt-secret-file", key, "--nats-listen", natsAddr, "--drain", "1s")
	harkproc.Ready(t, "http://"+web)
	report := exec.CommandContext(t.Context(), buildExample(t, dir, "report", strings.NewReplacer("localhost:4222", natsAddr), "main.go"))
	report.Stdout, report.Stderr = out, out
	if err := report.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { report.Process.Kill(); report.Wait() })
	ana := newClient(t, "http://"+web, "ana")
	polltest.Nil(t, "the kind report is there", func() error {
		kinds, err := ana.Kinds(t.Context())
		if err == nil && !slices.ContainsFunc(kinds, func(k jobs.Kind) bool { return k.Name == "report" }) {
			err = fmt.Errorf("there are %v\n%s", kinds, out)
		}
		return err
	})

	binary := buildExample(t, dir, "service", strings.NewReplacer(), "main.go")
	for _, run := range [][]string{{"http", "1"}, {"nats", "1"}, {"nats", "2"}, {"http", "2"}} {
		over, order := run[0], run[1]
		service := exec.CommandContext(t.Context(), binary, "--over", over, "--hark", "http://"+web, "--nats", "nats://"+natsAddr, "--order", order, "--pages", "2")
		service.Env = append(os.Environ(), "HARK_TOKEN="+token(t, "reports", "enqueue", "notify"))
		said, err := service.CombinedOutput()
		if want := "notified: Order " + order + " is on its way\n"; err != nil || !strings.Contains("\n"+string(said), "\nsucceeded: ") || !strings.HasSuffix(string(said), want) {
			t.Fatalf("order %s over %s ends with %v and says\n%s\nwant %s", order, over, err, said, want)
		}
	}
	// What is in the inbox with the last notification is all that the runs before it have sent.
	if _, err := newClient(t, "http://"+web, "service", "notify").Notify(t.Context(), "ana", jobs.Notification{Type: "end", Title: "The end"}); err != nil {
		t.Fatal(err)
	}
	got := titles(t, ana, 5)
	if want := []string{"Order 1 is on its way", "Order 2 is on its way", "Report is ready", "Report is ready", "The end"}; !slices.Equal(got, want) {
		t.Errorf("the inbox has %q, want %q", got, want)
	}
}

// titles waits until an inbox has at least n notifications, and returns their titles, sorted: a job has ended a moment before hark's
// notification of it is stored, and a program that follows the job may be faster with its own.
func titles(t *testing.T, c *client.Client, n int) (all []string) {
	t.Helper()
	for _, n := range awaitInbox(t, c, n).Notifications {
		all = append(all, n.Title)
	}
	slices.Sort(all)
	return all
}
