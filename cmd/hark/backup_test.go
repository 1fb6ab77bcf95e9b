package main

import (
	"bytes"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/hark-jobs/hark/internal/joblog"
	"github.com/hark-jobs/hark/internal/natstest"
	"github.com/hark-jobs/hark/jobs"
)

// What is saved from a server that runs is restored into the folder of one that is stopped, and saved from there again.
func TestBackup(t *testing.T) {
	freshAccount(t)
	s, flags := serveNATS(t)
	nc, err := s.Connect()
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	queue, err := joblog.Open(natstest.Context(t), nc, joblog.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := queue.PublishKind(natstest.Context(t), jobs.Kind{Name: "sleep", Title: "Sleep"}); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, _, err := queue.Enqueue(natstest.Context(t), jobs.Request{User: "ana", Kind: "sleep"}); err != nil {
			t.Fatal(err)
		}
	}
	first, second, data := filepath.Join(t.TempDir(), "first"), filepath.Join(t.TempDir(), "second"), filepath.Join(t.TempDir(), "data")
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{append([]string{"backup", first}, flags...), 0, "hark_log                3 messages"},
		{append([]string{"backup", first}, flags...), 1, "Use a new folder"},
		{[]string{"restore", first, "--check"}, 0, "hark_log                3 messages"},
		{[]string{"restore", first, "--data", data}, 0, "hark_log                3 messages"},
		{[]string{"restore", first, "--data", data}, 1, "--replace"},
		{[]string{"restore", first, "--data", data, "--replace"}, 0, "hark_log                3 messages"},
		{[]string{"backup", second, "--data", data}, 0, "hark_log                3 messages"},
		{[]string{"backup", second + "x"}, 2, "needs --nats"},
		{[]string{"backup", second + "x", "--nats", "nats://a", "--data", data}, 2, "give either --nats or --data"},
		{[]string{"restore", first + "x", "--check"}, 2, "no such file"},
	} {
		code, out, errs := harkCommand(t.Context(), c.args...)
		if said := out + errs; code != c.code || !strings.Contains(said, c.want) || strings.Contains(said, "s3cret") {
			t.Errorf("hark %s: %d, want %d and %q\n%s", strings.Join(c.args, " "), code, c.code, c.want, said)
		}
	}
}

// waitsFor is the log of a command. Its channel closes when the log has a text.
type waitsFor struct {
	text string
	seen chan struct{}

	mu  sync.Mutex
	log strings.Builder
}

func (w *waitsFor) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	had := strings.Contains(w.log.String(), w.text)
	w.log.Write(p)
	if !had && strings.Contains(w.log.String(), w.text) {
		close(w.seen)
	}
	return len(p), nil
}

func (w *waitsFor) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.String()
}

// Servers that have just started are not a cluster yet, and JetStream does not respond. A backup waits for it, and so does
// a restore.
func TestBackupWaitsForTheCluster(t *testing.T) {
	freshAccount(t)
	servers := natstest.Cluster(t, 3)
	queue, err := joblog.Open(natstest.Context(t), servers.ConnectTo(t, 0), joblog.Options{Settings: joblog.Settings{Replicas: 3}})
	if err != nil {
		t.Fatal(err)
	}
	defer queue.Close()
	dir, url := filepath.Join(t.TempDir(), "backup"), servers.URLs()[0]
	for _, args := range [][]string{{"backup", dir, "--nats", url}, {"restore", dir, "--replace", "--nats", url}} {
		for i := range 3 {
			servers.Stop(i)
		}
		servers.Start(0)
		var out bytes.Buffer
		log := &waitsFor{text: "retrying", seen: make(chan struct{})}
		ended := make(chan int, 1)
		go func() { ended <- run(t.Context(), args, Streams{In: strings.NewReader(""), Out: &out, Err: log}) }()
		select {
		case <-log.seen:
		case code := <-ended:
			t.Fatalf("hark %s: it did not wait: %d\n%s", args[0], code, log)
		}
		servers.Start(1)
		servers.Start(2)
		if code := <-ended; code != 0 {
			t.Errorf("hark %s: %d, want 0\n%s", args[0], code, log)
		}
	}
}
