package trouble_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hark-jobs/hark/internal/trouble"
)

// A lasting failure is logged at once and then once a minute, at any rate of Begin.
func TestTrouble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		first := errors.New("not started")
		tr := trouble.New(slog.New(slog.NewTextHandler(&log, nil)), "it begins", "it is over", first)
		if tr.Err() != first {
			t.Errorf("at first %v", tr.Err())
		}
		tr.Over()
		if log.Len() != 0 || tr.Err() != nil {
			t.Errorf("%v, and the log says %q", tr.Err(), log.String())
		}
		refused, away := errors.New("refused"), errors.New("away")
		for range 1800 { // 3 minutes, less a tenth of a second
			tr.Begin(away)
			tr.Begin(refused)
			time.Sleep(100 * time.Millisecond)
		}
		for _, reason := range []string{"refused", "away"} {
			if n := strings.Count(log.String(), reason); n != 3 || tr.Err() != refused {
				t.Errorf("%s was logged %d times, want 3; %v", reason, n, tr.Err())
			}
		}
		log.Reset()
		for i := range 600 { // a minute of reasons that are never the same
			tr.Begin(fmt.Errorf("reason %d", i))
			time.Sleep(100 * time.Millisecond)
		}
		if n := strings.Count(log.String(), "it begins"); n > 10 {
			t.Errorf("logged %d times in a minute", n)
		}
		tr.Over()
		tr.Over()
		if n := strings.Count(log.String(), "it is over"); n != 1 || tr.Err() != nil {
			t.Errorf("its end was logged %d times; %v", n, tr.Err())
		}
	})
}
