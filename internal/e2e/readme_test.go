package e2e_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hark-jobs/hark/internal/harkproc"
	"github.com/hark-jobs/hark/internal/logtest"
)

// The commands of README can be pasted as they stand there.
func TestReadmeWithCurl(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(readme), "## With curl\n")
	_, rest, _ = strings.Cut(rest, "```sh\n")
	script, _, ok := strings.Cut(rest, "```\n")
	if !ok {
		t.Fatal("README has no commands under With curl")
	}
	dir, addr, out := t.TempDir(), harkproc.FreeAddr(t), new(logtest.Buffer)
	script = strings.NewReplacer("localhost:4280", addr, "bin/hark", filepath.Join(dir, "hark")).Replace(script)
	shell := exec.Command("sh")
	shell.Stdin, shell.Stdout, shell.Stderr = strings.NewReader(script), out, out
	shell.Dir = "../.."
	shell.Env = append(harkproc.GoEnv(), "HARK_LISTEN="+addr, "HARK_DATA="+filepath.Join(dir, "data"))
	shell.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := shell.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-shell.Process.Pid, syscall.SIGKILL) // what it has left in the background, too
		_ = shell.Wait()
	})
	for end := time.Now().Add(5 * time.Minute); !strings.Contains(out.String(), "Export: Orders is ready"); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the commands do not lead to a notification:\n%s\n%s", script, out)
		}
	}
}
