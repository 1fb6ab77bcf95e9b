package notifier

import (
	"context"
	"errors"
	"testing"
)

// Each user has a limit of their own, and a user without requests uses no memory.
func TestGate(t *testing.T) {
	g := newGate(2, 3)
	over, cancel := context.WithCancel(t.Context())
	cancel()
	var releases []func()
	for range 2 {
		release, err := g.acquire(t.Context(), "ana")
		if err != nil {
			t.Fatal(err)
		}
		releases = append(releases, release)
	}
	for range 100 {
		if _, err := g.acquire(over, "ana"); err != context.Canceled {
			t.Fatalf("a third of ana's: %v", err)
		}
	}
	if _, err := g.tryAcquire("ana"); !errors.Is(err, errUserDownloads) {
		t.Errorf("a third of ana's: %v", err)
	}
	for _, user := range []string{"bob", "bob", "eve"} {
		release, err := g.tryAcquire(user)
		if err != nil {
			t.Fatal(user, err)
		}
		releases = append(releases, release)
	}
	if _, err := g.tryAcquire("eve"); !errors.Is(err, errAllDownloads) {
		t.Errorf("a fourth of all: %v", err)
	}
	if err := g.run(over, func() error { return nil }); err != context.Canceled {
		t.Errorf("a fourth of all: %v", err)
	}
	for _, release := range releases {
		release()
	}
	done := false
	if err := g.run(t.Context(), func() error { done = true; return nil }); err != nil || !done {
		t.Errorf("after the release: %v", err)
	}
	if len(g.users) != 0 || len(g.all) != 0 {
		t.Errorf("%d users and %d requests of all are left", len(g.users), len(g.all))
	}
}
