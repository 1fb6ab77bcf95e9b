package notifier

import (
	"context"
	"errors"
	"testing"
)

// A user's places are their own, and nothing is remembered of who has left.
func TestGate(t *testing.T) {
	g := newGate(2, 3)
	over, cancel := context.WithCancel(t.Context())
	cancel()
	var leaves []func()
	for range 2 {
		leave, err := g.wait(t.Context(), "ana")
		if err != nil {
			t.Fatal(err)
		}
		leaves = append(leaves, leave)
	}
	for range 100 {
		if _, err := g.wait(over, "ana"); err != context.Canceled {
			t.Fatalf("a third of ana's: %v", err)
		}
	}
	if _, err := g.try("ana"); !errors.Is(err, errUserDownloads) {
		t.Errorf("a third of ana's: %v", err)
	}
	for _, user := range []string{"bob", "bob", "eve"} {
		leave, err := g.try(user)
		if err != nil {
			t.Fatal(user, err)
		}
		leaves = append(leaves, leave)
	}
	if _, err := g.try("eve"); !errors.Is(err, errAllDownloads) {
		t.Errorf("a fourth of all: %v", err)
	}
	if err := g.during(over, func() error { return nil }); err != context.Canceled {
		t.Errorf("a fourth of all: %v", err)
	}
	for _, leave := range leaves {
		leave()
	}
	done := false
	if err := g.during(t.Context(), func() error { done = true; return nil }); err != nil || !done {
		t.Errorf("with room again: %v", err)
	}
	if len(g.users) != 0 || len(g.all) != 0 {
		t.Errorf("%d users and %d places stay", len(g.users), len(g.all))
	}
}
