package e2e_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/hark-jobs/hark/internal/harkproc"
	"github.com/hark-jobs/hark/internal/polltest"
)

// folder is one that the proxy's user owns, and nobody else's.
func folder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "hark-proxy-*") // t.TempDir is below one that only the tests' user can enter
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if c := plainUser(t); c != nil {
		if err := os.Chown(dir, int(c.Uid), int(c.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// plainUser is whom a proxy runs as: where root runs the tests it is nobody, else nil for the tests' own user.
func plainUser(t *testing.T) *syscall.Credential {
	t.Helper()
	if os.Getuid() != 0 {
		return nil
	}
	nobody, err := user.Lookup("nobody")
	if err != nil {
		t.Fatal(err)
	}
	uid, err := strconv.ParseUint(nobody.Uid, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	gid, err := strconv.ParseUint(nobody.Gid, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid), NoSetGroups: true}
}

// place writes a file into a folder of a proxy's, and returns its path.
func place(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := writeFile(t, filepath.Join(dir, name), text)
	if c := plainUser(t); c != nil {
		if err := os.Chown(path, int(c.Uid), int(c.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

// nginx runs nginx with this in its server's block until the test ends, and returns its URL.
func nginx(t *testing.T, server string) string {
	t.Helper()
	addr := harkproc.FreeAddr(t)
	runNginx(t, folder(t), fmt.Sprintf("server {\nlisten %s;\n%s\n}\n", addr, server), addr)
	return "http://" + addr
}

// runNginx runs nginx with this in its http block until the test ends. It returns when something listens at addr.
func runNginx(t *testing.T, dir, http, addr string) {
	t.Helper()
	var temp strings.Builder
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		fmt.Fprintf(&temp, "%s_temp_path %s/%[1]s;\n", kind, dir)
	}
	path := place(t, dir, "nginx.conf", fmt.Sprintf("daemon off;\nworker_processes 1;\npid %s/pid;\nerror_log stderr;\n"+
		"events { worker_connections 256; }\nhttp {\naccess_log off;\n%s%s}\n", dir, &temp, http))
	runProxy(t, exec.Command(program(t, "nginx"), "-p", dir, "-e", "stderr", "-c", path), addr)
}

// caddy runs Caddy with this in its site's block until the test ends, and returns its URL.
func caddy(t *testing.T, site string) string {
	t.Helper()
	addr := harkproc.FreeAddr(t)
	runCaddy(t, folder(t), fmt.Sprintf("http://%s {\n%s\n}\n", addr, site), addr)
	return "http://" + addr
}

// runCaddy runs Caddy with these sites until the test ends. It returns when something listens at addr.
func runCaddy(t *testing.T, dir, sites, addr string) {
	t.Helper()
	path := place(t, dir, "Caddyfile", "{\nadmin off\nauto_https disable_redirects\n}\n"+sites)
	cmd := exec.Command(program(t, "caddy"), "run", "--config", path, "--adapter", "caddyfile")
	cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
	runProxy(t, cmd, addr)
}

// apache runs Apache with this in its virtual host until the test ends, and returns its URL.
func apache(t *testing.T, site string) string {
	t.Helper()
	addr := harkproc.FreeAddr(t)
	runApache(t, folder(t), fmt.Sprintf("Listen %s\n%s\n", addr, site), addr)
	return "http://" + addr
}

// runApache runs Apache with this in its configuration until the test ends. It returns when something listens at addr.
func runApache(t *testing.T, dir, conf, addr string) {
	t.Helper()
	const threads = "ThreadLimit 64\nThreadsPerChild 25\nMaxRequestWorkers 150\n" // Debian's mpm_event.conf
	var modules strings.Builder
	for _, name := range []string{"mpm_event", "authz_core", "alias", "env", "headers", "filter", "deflate", "ssl", "http2", "proxy", "proxy_http"} {
		fmt.Fprintf(&modules, "LoadModule %s_module modules/mod_%[1]s.so\n", name)
	}
	errorLog := filepath.Join(dir, "error.log") // a pipe of another user's cannot be opened as /dev/stderr
	t.Cleanup(func() {
		if text, err := os.ReadFile(errorLog); err == nil && t.Failed() {
			t.Logf("Apache: %s", text)
		}
	})
	path := place(t, dir, "apache.conf", fmt.Sprintf("ServerRoot /usr/lib/apache2\nServerName localhost\nDefaultRuntimeDir %s\nPidFile %[1]s/pid\nMutex pthread\nErrorLog %s\n%s%s%s",
		dir, errorLog, &modules, threads, conf))
	runProxy(t, exec.Command(program(t, "apache2"), "-f", path, "-D", "FOREGROUND"), addr)
}

// runProxy runs a proxy, as a plain user, until the test ends. It returns when something listens at addr.
func runProxy(t *testing.T, cmd *exec.Cmd, addr string) {
	t.Helper()
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: plainUser(t), Setpgid: true}
	cmd.Stdout, cmd.Stderr = t.Output(), t.Output()
	cmd.Dir = "/" // that of the tests may be closed to the proxy's user
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // Apache would wait 10 s for its streams
		_ = cmd.Wait()
	})
	polltest.Nil(t, cmd.Path+" listens", func() error {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			conn.Close()
		}
		return err
	})
}

// program finds a program that Debian may keep where only root looks.
func program(t *testing.T, name string) string {
	t.Helper()
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	path := filepath.Join("/usr/sbin", name)
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%s is missing: run scripts/test-setup.sh", name)
	}
	return path
}

// upstream is the address of a hark, as proxies want it.
func upstream(url string) string { return strings.TrimPrefix(url, "http://") }
