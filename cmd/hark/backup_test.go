package main

import (
	"path/filepath"
	"strings"
	"testing"

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
	queue, err := jobs.Open(t.Context(), nc, jobs.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if err := queue.PublishKind(t.Context(), jobs.Kind{Name: "sleep", Title: "Sleep"}); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, _, err := queue.Enqueue(t.Context(), jobs.Request{User: "ana", Kind: "sleep"}); err != nil {
			t.Fatal(err)
		}
	}
	first, second, data := filepath.Join(t.TempDir(), "first"), filepath.Join(t.TempDir(), "second"), filepath.Join(t.TempDir(), "data")
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{append([]string{"backup", first}, flags...), 0, "HARK                    3 messages"},
		{append([]string{"backup", first}, flags...), 1, "Name a new folder"},
		{[]string{"restore", first, "--check"}, 0, "HARK                    3 messages"},
		{[]string{"restore", first, "--data", data}, 0, "HARK                    3 messages"},
		{[]string{"restore", first, "--data", data}, 1, "--replace"},
		{[]string{"restore", first, "--data", data, "--replace"}, 0, "HARK                    3 messages"},
		{[]string{"backup", second, "--data", data}, 0, "HARK                    3 messages"},
		{[]string{"backup", second + "x"}, 2, "needs --nats"},
		{[]string{"backup", second + "x", "--nats", "nats://a", "--data", data}, 2, "two places"},
		{[]string{"restore", first + "x", "--check"}, 2, "no such file"},
	} {
		code, out, errs := hark(t.Context(), c.args...)
		if said := out + errs; code != c.code || !strings.Contains(said, c.want) || strings.Contains(said, "s3cret") {
			t.Errorf("hark %s: %d, want %d and %q\n%s", strings.Join(c.args, " "), code, c.code, c.want, said)
		}
	}
}
