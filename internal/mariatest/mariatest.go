// Package mariatest gives tests a real MariaDB, which stands for MySQL as well: a private server in a temporary folder,
// without a port.
package mariatest

import (
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"

	_ "github.com/go-sql-driver/mysql" // the driver "mysql"
)

// startTimeout is how long the server may take to accept connections.
const startTimeout = 2 * time.Minute

// Start starts a server and returns the DSN of its database "test", in the form of go-sql-driver. It ends with the test.
func Start(t testing.TB) (dsn string) {
	t.Helper()
	// Not t.TempDir: the path of a Unix socket has 107 bytes at most.
	dir, err := os.MkdirTemp("/tmp", "hark-maria-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	attr, err := account(dir)
	if err != nil {
		t.Fatal("mariatest: ", err)
	}
	// A server that starts removes what it takes for left-over tables in its folder for temporary files: /tmp would be that of
	// all.
	data, socket, temporary := filepath.Join(dir, "data"), filepath.Join(dir, "s"), "--tmpdir="+dir
	install := command(t, attr, dir, "mariadb-install-db", "--no-defaults", "--datadir="+data, temporary, "--auth-root-authentication-method=normal", "--skip-test-db")
	runtime.LockOSThread() // as below
	out, err := install.CombinedOutput()
	runtime.UnlockOSThread()
	if err != nil {
		t.Fatalf("mariatest: %v\n%s", err, out)
	}
	log := filepath.Join(dir, "log")
	server := command(t, attr, dir, "mariadbd", "--no-defaults", "--datadir="+data, temporary, "--socket="+socket, "--skip-networking",
		"--pid-file="+filepath.Join(dir, "pid"), "--log-error="+log, "--innodb-flush-log-at-trx-commit=0", "--innodb-use-native-aio=0")
	started, ended := make(chan error), make(chan struct{})
	go func() {
		// The server dies with the thread that has started it, which is not that of a goroutine unless it is locked to it.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(ended)
		err := server.Start()
		started <- err
		if err == nil {
			_ = server.Wait()
		}
	}()
	if err := <-started; err != nil {
		t.Fatal("mariatest: ", err)
	}
	t.Cleanup(func() {
		_ = server.Process.Kill() // nothing of it is kept
		<-ended
	})
	db, err := sql.Open("mysql", fmt.Sprintf("root@unix(%s)/", socket))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for end := time.Now().Add(startTimeout); ; time.Sleep(50 * time.Millisecond) {
		if _, err = db.Exec("CREATE DATABASE test CHARACTER SET utf8mb4"); err == nil {
			return fmt.Sprintf("root@unix(%s)/test", socket)
		}
		select {
		case <-ended:
			end = time.Time{}
		default:
		}
		if time.Now().After(end) {
			text, _ := os.ReadFile(log)
			t.Fatalf("mariatest: the server does not start: %v\n%s", err, text)
		}
	}
}

func command(t testing.TB, attr *syscall.SysProcAttr, dir, name string, args ...string) *exec.Cmd {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		path, err = exec.LookPath("/usr/sbin/" + name)
	}
	if err != nil {
		t.Fatal("mariatest: MariaDB's server is missing: run scripts/test-setup.sh (apt-get install mariadb-server)")
	}
	cmd := exec.Command(path, args...)
	cmd.Dir, cmd.SysProcAttr = dir, attr
	return cmd
}

// account says as whom the server runs, to whom it gives dir: it should not run as root. It dies with this process.
func account(dir string) (*syscall.SysProcAttr, error) {
	attr := &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() != 0 {
		return attr, nil
	}
	for _, name := range []string{"mysql", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		if err := errors.Join(err1, err2, os.Chown(dir, int(uid), int(gid))); err != nil {
			return nil, err
		}
		attr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		return attr, nil
	}
	return nil, errors.New("there is no user mysql or nobody to run it as")
}
