// Package harkproc runs the real program in tests: built once per test process, killed as a crash would or
// stopped as an operator would, and started again.
package harkproc

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"github.com/hark-jobs/hark/internal/polltest"
)

// BinaryVariable has the path of a program that is built already, for a test that runs itself in another process.
const BinaryVariable = "HARKPROC_BINARY"

var build = sync.OnceValues(func() (string, error) {
	if path := os.Getenv(BinaryVariable); path != "" {
		return path, nil
	}
	dir, err := newFolder()
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "hark")
	_, err = output("build", "-o", path, program)
	return path, err
})

// built has the folders of what was built.
var built struct {
	sync.Mutex
	dirs []string
}

// newFolder makes a folder for what is built, which [Main] removes.
func newFolder() (string, error) {
	dir, err := os.MkdirTemp("", "harkproc-*")
	if err != nil {
		return "", err
	}
	built.Lock()
	defer built.Unlock()
	built.dirs = append(built.dirs, dir)
	return dir, nil
}

// Main runs the tests of a package that uses harkproc, and removes what was built for them.
func Main(m *testing.M) int {
	code := m.Run()
	built.Lock()
	defer built.Unlock()
	for _, dir := range built.dirs {
		os.RemoveAll(dir)
	}
	return code
}

// Binary builds the program, once, and returns its path.
func Binary(t testing.TB) string {
	t.Helper()
	path, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// Process is one program, mostly hark, with its arguments, running or not. Its methods are safe for concurrent use.
type Process struct {
	t    testing.TB
	args []string
	log  io.Writer

	mu     sync.Mutex
	binary string
	cmd    *exec.Cmd
	kills  int
}

// Start starts hark with args, and what it prints goes to log. It is killed when the test ends.
func Start(t testing.TB, log io.Writer, args ...string) *Process {
	t.Helper()
	return start(t, log, Binary(t), args)
}

// StartOther is [Start] for the program of another package, which is built once per test process.
func StartOther(t testing.TB, log io.Writer, pkg string, args ...string) *Process {
	t.Helper()
	others.Lock()
	defer others.Unlock()
	path := others.paths[pkg]
	if path == "" {
		dir, err := newFolder()
		if err == nil {
			path = filepath.Join(dir, filepath.Base(filepath.Dir(pkg)))
			_, err = output("build", "-o", path, pkg)
		}
		if err != nil {
			t.Fatal(err)
		}
		if others.paths == nil {
			others.paths = make(map[string]string)
		}
		others.paths[pkg] = path
	}
	return start(t, log, path, args)
}

// others has the programs of other packages that were built.
var others struct {
	sync.Mutex
	paths map[string]string
}

func start(t testing.TB, log io.Writer, binary string, args []string) *Process {
	t.Helper()
	p := &Process{t: t, args: args, log: log, binary: binary}
	p.Restart()
	t.Cleanup(p.Kill)
	return p
}

// Restart starts the process unless it runs.
func (p *Process) Restart() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd != nil {
		return
	}
	cmd := exec.Command(p.binary, p.args...)
	cmd.Stdout, cmd.Stderr = p.log, p.log
	if err := cmd.Start(); err != nil {
		p.t.Errorf("%s %s: %v", filepath.Base(p.binary), p.args[0], err)
		return
	}
	p.cmd = cmd
}

// Kill kills the process as a crash would, and waits until it is gone.
func (p *Process) Kill() { p.end(syscall.SIGKILL) }

// Stop asks the process to stop, as an operator would, waits for it, and returns its exit code.
func (p *Process) Stop() int { return p.end(syscall.SIGTERM) }

func (p *Process) end(signal syscall.Signal) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return 0
	}
	if signal == syscall.SIGKILL {
		p.kills++
	}
	p.cmd.Process.Signal(signal)
	p.cmd.Wait() // the error repeats what the state says
	code := p.cmd.ProcessState.ExitCode()
	p.cmd = nil
	return code
}

// Wait waits until the process ends by itself and returns its exit code.
func (p *Process) Wait() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cmd.Wait()
	code := p.cmd.ProcessState.ExitCode()
	p.cmd = nil
	return code
}

// Signal sends a signal and waits for nothing.
func (p *Process) Signal(signal os.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd != nil {
		p.cmd.Process.Signal(signal)
	}
}

// Kills returns how often the process was killed.
func (p *Process) Kills() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.kills
}

// PID returns the process's id, 0 when it does not run.
func (p *Process) PID() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return 0
	}
	return p.cmd.Process.Pid
}

// Ready waits until the notifier at url says that it is ready.
func Ready(t testing.TB, url string) {
	t.Helper()
	// Whether a certificate is good is not asked here.
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	polltest.Nil(t, url+" is ready", func() error {
		res, err := client.Get(url + "/readyz")
		if err != nil {
			return err
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err == nil && res.StatusCode != http.StatusOK {
			err = fmt.Errorf("%s: %s", res.Status, body)
		}
		return err
	})
}
