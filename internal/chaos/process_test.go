package chaos_test

import (
	"io"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/hark-jobs/hark/internal/harkproc"
)

func TestMain(m *testing.M) { os.Exit(harkproc.Main(m)) }

// process is one hark, and what it is called in the account.
type process struct {
	name string
	*harkproc.Process
}

// havoc kills one process after another, each at a random moment, and starts it again, until stop is closed.
func havoc(processes []process, every time.Duration, stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		case <-time.After(every/2 + rand.N(every)):
		}
		p := processes[rand.IntN(len(processes))]
		p.Kill()
		select {
		case <-stop:
		case <-time.After(rand.N(500 * time.Millisecond)):
		}
		p.Restart()
	}
}

// logFile keeps what the processes say, for when the test fails.
func logFile(t *testing.T) io.Writer {
	t.Helper()
	f, err := os.CreateTemp("", "hark-chaos-*.log")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		f.Close()
		if t.Failed() {
			t.Logf("what the processes said: %s", f.Name())
		} else {
			os.Remove(f.Name())
		}
	})
	return f
}
