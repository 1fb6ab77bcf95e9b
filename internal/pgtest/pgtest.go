//go:build unix

// Package pgtest gives tests a real PostgreSQL: a private cluster in a temporary folder, without a port
// and without anything to set up but the installed programs.
//
//	store, err := inbox.Open(pgtest.DSN(t), inbox.Options{})
//
// The first [DSN] of a test process starts a cluster that all its tests share, each in a database of its own that is empty.
// [Pooled] is the same behind PgBouncer. [Start] gives a cluster to one test alone, to stop and start again. A test never skips because
// PostgreSQL is missing: it fails and says what to install.
//
// # How a cluster ends
//
// A test process may be killed before any cleanup runs, and Pdeathsig is bound to the thread that
// started the child, which Go may end at any time. So each cluster has a keeper: a shell that reads a
// pipe whose other end only the test process holds. The kernel closes that end however the process
// dies; the keeper then stops the server and removes the folder. It has its own session, so that a
// Ctrl-C meant for the test does not end it first.
package pgtest

import (
	"bufio"
	"cmp"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hark-jobs/hark/internal/tlstest"
)

//go:embed keep.sh
var keepScript string

// errMissing is what a test fails with on a machine without PostgreSQL.
var errMissing = errors.New("PostgreSQL's server programs are missing: run scripts/test-setup.sh (apt-get install postgresql)")

var shared = sync.OnceValues(func() (*Server, error) { return start(tlstest.Files{}) })

// DSN returns the URL of an empty database in the cluster that the tests of this process share. No other test uses it until
// t ends; then its sessions are ended and it is emptied. It is safe for concurrent use.
func DSN(t testing.TB) string {
	t.Helper()
	s, err := shared()
	if err != nil {
		t.Fatal("pgtest: ", err)
	}
	return s.url(direct.lend(t, s))
}

// poolSize is how many connections to the server PgBouncer has for each database; keep.sh has it, too.
const poolSize = 3

// Pooled is [DSN], through PgBouncer in transaction mode: each transaction gets another of three connections to the
// server than the one before, without what that has left in its session.
func Pooled(t testing.TB) string {
	t.Helper()
	s, err := shared()
	if err == nil {
		err = pool()
	}
	if err != nil {
		t.Fatal("pgtest: ", err)
	}
	dsn := pooled(s.url(behindPooler.lend(t, s)))
	if err := fillSoon(dsn); err != nil {
		t.Fatal("pgtest: PgBouncer: ", err)
	}
	return dsn
}

// pool starts PgBouncer before the shared cluster, once. It ends with that.
var pool = sync.OnceValue(func() error {
	if pgbouncer() == "" {
		return errors.New("PgBouncer is missing: run scripts/test-setup.sh (apt-get install pgbouncer)")
	}
	s, err := shared()
	if err != nil {
		return err
	}
	if err := s.tell("pool"); err != nil {
		return err
	}
	return fillSoon(pooled(s.url("postgres")))
})

// pgbouncer finds PgBouncer, which Debian keeps where only root looks for programs; empty if it is not there.
func pgbouncer() string {
	for _, name := range []string{"pgbouncer", "/usr/sbin/pgbouncer"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

// Server is one running cluster. Its methods may be called concurrently.
type Server struct {
	dir       string
	port      string // of 127.0.0.1, where it speaks TLS; empty if it does not
	databases atomic.Int64

	mu      sync.Mutex // one word to the keeper at a time
	keeper  *exec.Cmd
	words   *os.File // closing it ends the keeper
	answers *bufio.Reader
}

// Start returns a cluster for t alone. It runs, and is gone when t ends.
func Start(t testing.TB) *Server {
	t.Helper()
	return startFor(t, tlstest.Files{})
}

// StartTLS is [Start] for a cluster that also listens on a port of 127.0.0.1, where it takes connections with TLS alone.
// Its certificate is that of files.
func StartTLS(t testing.TB, files tlstest.Files) *Server {
	t.Helper()
	return startFor(t, files)
}

func startFor(t testing.TB, files tlstest.Files) *Server {
	t.Helper()
	s, err := start(files)
	if err != nil {
		t.Fatal("pgtest: ", err)
	}
	t.Cleanup(s.end)
	return s
}

// Addr returns where a cluster of [StartTLS] listens.
func (s *Server) Addr() string { return "127.0.0.1:" + s.port }

// DSN returns the URL of a fresh, empty database, which is dropped when t ends. The server must run.
func (s *Server) DSN(t testing.TB) string {
	t.Helper()
	name := s.create(t)
	t.Cleanup(func() { s.drop(name) })
	return s.url(name)
}

// Stop stops the server: connections break and new ones are refused. The data stays. It returns once
// the server is down.
func (s *Server) Stop(t testing.TB) {
	t.Helper()
	if err := s.tell("stop"); err != nil {
		t.Fatal("pgtest: ", err)
	}
}

// Start starts the server again after [Server.Stop], with its data and at the same address. It returns
// once connections are accepted.
func (s *Server) Start(t testing.TB) {
	t.Helper()
	if err := s.tell("start"); err != nil {
		t.Fatal("pgtest: ", err)
	}
}

func start(files tlstest.Files) (*Server, error) {
	bin, err := programs()
	if err != nil {
		return nil, err
	}
	attr, err := account()
	if err != nil {
		return nil, err
	}
	dir, err := folder(attr.Credential)
	if err != nil {
		return nil, err
	}
	s := &Server{dir: dir}
	if files.Cert != "" {
		err = s.prepareTLS(files, attr.Credential)
	}
	if err == nil {
		err = s.startKeeper(bin, attr)
	}
	if err != nil {
		_ = os.RemoveAll(dir)
		return nil, err
	}
	for _, word := range []string{"init", "start"} {
		if err := s.tell(word); err != nil {
			s.end()
			return nil, err
		}
	}
	return s, nil
}

// prepareTLS chooses a port, and copies the certificate to where the server may read it: PostgreSQL wants its key to be
// its own.
func (s *Server) prepareTLS(files tlstest.Files, as *syscall.Credential) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer l.Close()
	_, s.port, _ = net.SplitHostPort(l.Addr().String())
	for name, from := range map[string]string{"cert.pem": files.Cert, "key.pem": files.Key} {
		text, err := os.ReadFile(from)
		if err != nil {
			return err
		}
		path := filepath.Join(s.dir, name)
		if err := os.WriteFile(path, text, 0o600); err != nil {
			return err
		}
		if as != nil {
			if err := os.Chown(path, int(as.Uid), int(as.Gid)); err != nil {
				return err
			}
		}
	}
	return nil
}

// startKeeper hands dir to the keeper, which removes it from then on.
func (s *Server) startKeeper(bin string, attr *syscall.SysProcAttr) error {
	stdin, words, err := os.Pipe()
	if err != nil {
		return err
	}
	defer stdin.Close()
	answers, stdout, err := os.Pipe()
	if err != nil {
		return errors.Join(err, words.Close())
	}
	defer stdout.Close()
	cmd := exec.Command("/bin/sh", "-c", keepScript, "pgtest", bin, s.dir, s.port, pgbouncer())
	cmd.Stdin, cmd.Stdout = stdin, stdout
	cmd.Dir = s.dir
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.SysProcAttr = attr
	if err := cmd.Start(); err != nil {
		return errors.Join(fmt.Errorf("start the keeper: %w", err), words.Close(), answers.Close())
	}
	s.keeper, s.words, s.answers = cmd, words, bufio.NewReader(answers)
	return nil
}

// tell says word to the keeper and waits for the outcome.
func (s *Server) tell(word string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := s.words.WriteString(word + "\n"); err != nil {
		return fmt.Errorf("%s: %w", word, err)
	}
	answer, err := s.answers.ReadString('\n')
	if err != nil {
		return fmt.Errorf("%s: %w", word, err)
	}
	if code := strings.TrimSpace(answer); code != "0" {
		log, _ := os.ReadFile(filepath.Join(s.dir, "log"))
		return fmt.Errorf("%s: exit code %s:\n%s", word, code, log)
	}
	return nil
}

// end stops the server and waits until its folder is gone.
func (s *Server) end() {
	_ = s.words.Close()
	_ = s.keeper.Wait()
}

func (s *Server) url(database string) string {
	return fmt.Sprintf("postgres://postgres@/%s?host=%s&port=%s&sslmode=disable", database, s.dir, cmp.Or(s.port, "5432"))
}

func (s *Server) exec(sql string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.url("postgres"))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, sql); err != nil {
		return fmt.Errorf("%s: %w", sql, err)
	}
	return nil
}

// programs finds the folder of initdb, pg_ctl and postgres. Debian keeps it out of the PATH.
func programs() (string, error) {
	candidates, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	if path, err := exec.LookPath("initdb"); err == nil {
		candidates = append(candidates, filepath.Dir(path))
	}
	for i := len(candidates) - 1; i >= 0; i-- {
		if isProgram(candidates[i], "initdb") && isProgram(candidates[i], "pg_ctl") && isProgram(candidates[i], "postgres") {
			return candidates[i], nil
		}
	}
	return "", errMissing
}

func isProgram(dir, name string) bool {
	_, err := exec.LookPath(filepath.Join(dir, name))
	return err == nil
}

// account says as whom the cluster runs: PostgreSQL refuses root.
func account() (*syscall.SysProcAttr, error) {
	attr := &syscall.SysProcAttr{Setsid: true}
	if os.Geteuid() != 0 {
		return attr, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		if err := errors.Join(err1, err2); err != nil {
			return nil, fmt.Errorf("user %s: %w", name, err)
		}
		attr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		return attr, nil
	}
	return nil, errors.New("PostgreSQL refuses to run as root, and there is no user postgres or nobody to run it as")
}

// folder makes the cluster's folder. It stands in /tmp whatever TMPDIR says: the path of a Unix socket
// has 107 bytes at most, and the other user may not reach a folder inside root's.
func folder(as *syscall.Credential) (string, error) {
	dir, err := os.MkdirTemp("/tmp", "hark-pg-")
	if err != nil {
		return "", err
	}
	if as == nil {
		return dir, nil
	}
	if err := os.Chown(dir, int(as.Uid), int(as.Gid)); err != nil {
		return "", errors.Join(err, os.RemoveAll(dir))
	}
	return dir, nil
}
