package e2e_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/hark-jobs/hark/internal/harkproc"
	"github.com/hark-jobs/hark/internal/logtest"
	"github.com/hark-jobs/hark/internal/polltest"
)

// With --sync always what a user reads and deletes is on the disk when it is answered, as what is stored in the log is: the
// system calls of the real program say so.
func TestMarksAreSynced(t *testing.T) {
	t.Parallel()
	addr, dir := harkproc.FreeAddr(t), t.TempDir()
	calls := filepath.Join(dir, "calls")
	cmd := exec.Command("strace", "-f", "-qq", "-y", "-e", "trace=fsync,fdatasync", "-e", "signal=none", "-o", calls,
		harkproc.Binary(t), "serve", "--listen", addr, "--data", filepath.Join(dir, "data"), "--jwt-secret", secret, "--drain", "1s", "--sync", "always")
	cmd.Stdout, cmd.Stderr = t.Output(), t.Output()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // to end both
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		cmd.Wait()
	})
	b := &box{t: t, url: "http://" + addr, out: new(logtest.Buffer)}
	harkproc.Ready(t, b.url)
	b.service, b.ana = newClient(t, b.url, "service", "notify"), newClient(t, b.url, "ana")
	const n = 30
	ids := b.notify("x", n)
	polltest.Until(t, "the inbox is filled", func() bool { return len(b.inbox()) >= n })
	synced := func() int {
		text, err := os.ReadFile(calls)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Count(string(text), "inbox.db-wal>")
	}
	before := synced()
	for i, id := range ids {
		var err error
		if i%2 == 0 {
			_, err = b.ana.MarkRead(t.Context(), id)
		} else {
			_, err = b.ana.DeleteNotification(t.Context(), id)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	// What is traced comes a moment later. Besides these, an ingester syncs twice in four seconds.
	polltest.Nil(t, "each change is synced", func() error {
		if synced()-before < n {
			return fmt.Errorf("%d changes were answered, and the inbox was synced %d times", n, synced()-before)
		}
		return nil
	})
}
