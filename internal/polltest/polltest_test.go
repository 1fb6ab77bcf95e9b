package polltest_test

import (
	"errors"
	"testing"

	"github.com/hark-jobs/hark/internal/polltest"
)

// Both call their check until it has what it wants.
func TestUntil(t *testing.T) {
	calls := 0
	polltest.Until(t, "three calls", func() bool { calls++; return calls == 3 })
	if calls != 3 {
		t.Fatalf("%d calls, want 3", calls)
	}
	polltest.Nil(t, "six calls", func() error {
		calls++
		if calls < 6 {
			return errors.New("not yet")
		}
		return nil
	})
	if calls != 6 {
		t.Errorf("%d calls, want 6", calls)
	}
}
