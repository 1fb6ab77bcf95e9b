package notifier

import (
	"errors"
	"strconv"
	"testing"
	"testing/synctest"
	"time"
)

func TestLimiter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(2)
		for i := range 20 {
			if err := l.take("ana"); err != nil {
				t.Fatalf("%d: %v", i, err)
			}
		}
		var p *problem
		if err := l.take("ana"); !errors.As(err, &p) || p.Status != 429 || p.retryAfter != 1 {
			t.Errorf("one too many: %v", err)
		}
		if err := l.take("bob"); err != nil {
			t.Errorf("another user: %v", err)
		}
		time.Sleep(time.Second)
		for i := range 3 {
			if err := l.take("ana"); (err != nil) != (i == 2) {
				t.Errorf("a second later, %d: %v", i, err)
			}
		}
		for i := range 5 * minSweep {
			time.Sleep(time.Millisecond)
			if err := l.take(strconv.Itoa(i)); err != nil || len(l.tat) > 2*minSweep {
				t.Fatalf("%d users are remembered, %v", len(l.tat), err)
			}
		}
	})
}
