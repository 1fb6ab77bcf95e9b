package natsd

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"
)

// A failed write and a full disk lead to a restart when they were there twice, and a stream that is not there when it could have
// been created meanwhile.
func TestSuspicion(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for _, c := range []struct {
			name   string
			reason func(second int) error
			want   int // the second in which it lasts; 0 for never
		}{
			{"a write error", func(int) error {
				return errors.New("natsd: JetStream stream '$G > a' write error: no space left on device")
			}, 2},
			{"a full store", func(i int) error { return fmt.Errorf("%w: the stored data has %d bytes", ErrNoRoom, i) }, 2},
			{"a stream that is created slowly", func(int) error { return errors.New("natsd: JetStream stream '$G > a' could not be recovered") }, 11},
			{"streams that are created one after another", func(i int) error {
				return fmt.Errorf("natsd: JetStream stream '$G > %d' could not be recovered", i)
			}, 0},
		} {
			var s suspicion
			lasts := 0
			for second := 1; second <= 30 && lasts == 0; second++ {
				if s.lasts(c.reason(second)) {
					lasts = second
				}
				time.Sleep(time.Second)
			}
			if lasts != c.want {
				t.Errorf("%s lasts in second %d, want %d", c.name, lasts, c.want)
			}
		}
	})
}

// A server in which a stream is being created for several checks is not restarted.
func TestNotRestartedWhileAStreamIsCreated(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, err := Start(Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	before := s.current()
	if err := os.MkdirAll(filepath.Join(before.StoreDir(), "$G", "streams", "new"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := storeError(before); err == nil {
		t.Fatal("the server does not report it, so this test tests nothing")
	}
	for range 3 {
		s.check()
	}
	if s.current() != before {
		t.Error("it was restarted")
	}
}
