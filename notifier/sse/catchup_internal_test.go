package sse

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A thousand streams that cannot read the log for three seconds do not fill the operator's log.
func TestFailedReadsAreLoggedOncePerSecond(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		log := slog.New(slog.NewTextHandler(&out, nil))
		var f failedReads
		for range 3 {
			for range 1000 {
				f.warn(log, errors.New("no contact"))
			}
			time.Sleep(time.Second)
		}
		if lines := strings.Count(out.String(), "\n"); lines != 3 {
			t.Errorf("%d lines", lines)
		}
		for _, want := range []string{"failures=1\n", "failures=1000\n", `err="no contact"`} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("lacks %q:\n%s", want, out.String())
			}
		}
	})
}
