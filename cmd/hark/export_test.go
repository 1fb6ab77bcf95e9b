package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/notifier/auth"
)

// exporting returns a server whose export is done as soon as it is asked for, and works in a folder of
// its own.
func exporting(t *testing.T) *fake {
	t.Helper()
	secret, err := auth.LoadOrCreateSecret(filepath.Join(freshAccount(t), "secret"))
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	return newFake(t, secret)
}

func TestExport(t *testing.T) {
	f := exporting(t)
	f.succeed()
	code, out, stderr := harkCommand(t.Context(), "export", "orders", "-p", "limit=7", "--param", "note=a,b", "-o", "out.CSV", "--url", f.server.URL, "--user", "ana")
	if code != exitOK || out != "" || content(t, "out.CSV") != f.file || !strings.HasSuffix(stderr, "hark: out.CSV: 1 rows, 13 B in 1s\n") {
		t.Errorf("got %d, %q, %q", code, out, stderr)
	}
	var asked struct {
		Kind   string
		Params json.RawMessage
	}
	if err := json.Unmarshal([]byte(f.params), &asked); err != nil || asked.Kind != "export" ||
		string(asked.Params) != `{"dataset":"orders","format":"csv","limit":7,"note":"a,b"}` {
		t.Errorf("asked for %s, %v", f.params, err)
	}
	code, out, stderr = harkCommand(t.Context(), "export", "orders", "--url", f.server.URL)
	if code != exitOK || out != "orders.csv\n" || content(t, "orders.csv") != f.file {
		t.Errorf("without -o: got %d, %q, %q", code, out, stderr)
	}
	code, out, stderr = harkCommand(t.Context(), "export", "orders", "-o", "-", "--url", f.server.URL)
	if code != exitOK || out != f.file {
		t.Errorf("to stdout: got %d, %q, %q", code, out, stderr)
	}
}

func TestExportThatFails(t *testing.T) {
	f := exporting(t)
	for want, change := range map[string]func(*jobs.Job){
		"hark: the export failed: The database is away\n": func(j *jobs.Job) {
			j.State, j.Error = jobs.Failed, &jobs.Error{Code: "x", Message: "The database is away."}
		},
		"hark: the export was cancelled\n":                      func(j *jobs.Job) { j.State = jobs.Cancelled },
		"hark: the export (job J) succeeded but left no file\n": func(j *jobs.Job) { j.State, j.File = jobs.Succeeded, nil },
		"hark: download: got 13 of 99 bytes (the file of job J is still on the server)\n": func(j *jobs.Job) {
			j.State, j.File = jobs.Succeeded, &jobs.File{Name: "x.csv", Size: 99}
		},
	} {
		f.change(change)
		code, out, stderr := harkCommand(t.Context(), "export", "orders", "-o", "out.csv", "--url", f.server.URL)
		if code != exitFailed || out != "" || !strings.HasSuffix(stderr, want) {
			t.Errorf("got %d, %q, %q, want %q", code, out, stderr, want)
		}
		if files, err := os.ReadDir("."); err != nil || len(files) != 0 {
			t.Errorf("left behind: %v, %v", files, err)
		}
	}
}

// TestExportInterrupted holds that Ctrl-C cancels the job, says so, and leaves no file and the code of
// the signal.
func TestExportInterrupted(t *testing.T) {
	f := exporting(t)
	ctx, interrupt := context.WithCancelCause(t.Context())
	stderr := &trigger{on: "orders: running", do: func() { interrupt(&interruptError{syscall.SIGINT}) }}
	f.change(func(j *jobs.Job) { j.State, j.Attempt = jobs.Running, 1 })
	var out bytes.Buffer
	code := run(ctx, []string{"export", "orders", "-o", "out.csv", "--url", f.server.URL}, Streams{Out: &out, Err: stderr})
	if code != 130 || !strings.Contains(stderr.String(), "hark: interrupted; cancelling the export") ||
		!strings.HasSuffix(stderr.String(), "hark: the export is cancelled\n") {
		t.Errorf("got %d, %q", code, stderr.String())
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.job.State != jobs.Cancelled {
		t.Errorf("the job is %s", f.job.State)
	}
	if files, err := os.ReadDir("."); err != nil || len(files) != 0 {
		t.Errorf("left behind: %v, %v", files, err)
	}
}

func TestWatch(t *testing.T) {
	f := exporting(t)
	for name, c := range map[string]struct {
		args []string
		want []string
	}{
		"for people": {nil, []string{"hello         listening as ana", "job           J  queued  Orders", "notification  Ready�[2J  1 row  /x", "inbox         3 unread"}},
		"JSON": {[]string{"--json"}, []string{
			`{"id":"e-1","event":"hello","data":{"user":"ana"}}`, `{"id":"e-1","event":"job","data":{"id":"J",`,
			`{"id":"e-2","event":"notification","data":{"title":"Ready\u001b[2J"`, `{"id":"e-2","event":"inbox","data":{"unread":3}}`,
		}},
	} {
		ctx, interrupt := context.WithCancelCause(t.Context())
		out := &trigger{on: "unread", do: func() { interrupt(&interruptError{syscall.SIGTERM}) }}
		var stderr bytes.Buffer
		args := append([]string{"watch", "--url", f.server.URL, "--user", "ana"}, c.args...)
		if code := run(ctx, args, Streams{Out: out, Err: &stderr}); code != exitOK || stderr.Len() > 0 {
			t.Errorf("%s: got %d, %q", name, code, stderr.String())
		}
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		if len(lines) != len(c.want) {
			t.Fatalf("%s: got %q", name, lines)
		}
		for i, want := range c.want {
			if !strings.Contains(lines[i], want) {
				t.Errorf("%s: got %q, want %q", name, lines[i], want)
			}
		}
	}
}

// trigger calls do, once, when it has been written on.
type trigger struct {
	bytes.Buffer
	on string
	do func()
}

func (w *trigger) Write(p []byte) (int, error) {
	n, err := w.Buffer.Write(p)
	if w.do != nil && strings.Contains(w.String(), w.on) {
		w.do()
		w.do = nil
	}
	return n, err
}
