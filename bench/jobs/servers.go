package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
)

// server is a child process with the server of a system.
type server struct {
	cmd   *exec.Cmd
	ended chan struct{} // closed when the process has ended
	log   string
}

// startServer starts a program that stays in the foreground, and waits until ready returns nil.
func startServer(ctx context.Context, dir string, as *syscall.SysProcAttr, ready func(context.Context) error, program string, args ...string) (*server, error) {
	s := &server{cmd: exec.Command(program, args...), ended: make(chan struct{}), log: filepath.Join(dir, "log")}
	log, err := os.Create(s.log)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	s.cmd.Dir, s.cmd.Stdout, s.cmd.Stderr, s.cmd.SysProcAttr = dir, log, log, as
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { _ = s.cmd.Wait(); close(s.ended) }()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		err := ready(ctx)
		if err == nil {
			return s, nil
		}
		select {
		case <-s.ended:
			said, _ := os.ReadFile(s.log)
			return nil, fmt.Errorf("%s ended:\n%s", program, said)
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("%s does not answer: %w", program, err), s.stop())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// stop ends the server in an orderly way, and waits for it.
func (s *server) stop() error {
	if s == nil {
		return nil
	}
	select {
	case <-s.ended:
		return nil
	default:
	}
	// For PostgreSQL SIGINT is a fast shutdown, and SIGTERM one that waits for its clients. Redis treats both alike.
	if err := s.cmd.Process.Signal(syscall.SIGINT); err != nil {
		return err
	}
	select {
	case <-s.ended:
		return nil
	case <-time.After(30 * time.Second):
		return errors.Join(fmt.Errorf("%s did not end in time and is killed", s.cmd.Path), s.cmd.Process.Kill())
	}
}

// cpu returns the CPU time that the server and its children, running and ended, have used so far.
func (s *server) cpu() (time.Duration, error) {
	pid := strconv.Itoa(s.cmd.Process.Pid)
	total, err := cpuOf(pid, true)
	if err != nil {
		return 0, err
	}
	lists, err := filepath.Glob("/proc/" + pid + "/task/*/children")
	if err != nil {
		return 0, err
	}
	for _, list := range lists {
		children, err := os.ReadFile(list)
		if err != nil {
			return 0, err
		}
		for child := range strings.FieldsSeq(string(children)) {
			if used, err := cpuOf(child, false); err == nil { // it may have ended meanwhile
				total += used
			}
		}
	}
	return total, nil
}

// cpuOf returns the CPU time of a process, and of its ended children if dead is set.
func cpuOf(pid string, dead bool) (time.Duration, error) {
	b, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return 0, err
	}
	// After the name in parentheses, which may have any characters: fields 14 to 17 of proc_pid_stat(5), in hundredths of a second.
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(fields) < 15 {
		return 0, fmt.Errorf("/proc/%s/stat is not as expected: %q", pid, b)
	}
	end := 13
	if dead {
		end = 15
	}
	var ticks int64
	for _, field := range fields[11:end] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond, nil
}

// freePort returns an unused port of the loopback address.
func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port), nil
}

// startPostgres creates a cluster with PostgreSQL's defaults, except for the two settings below, and starts it.
func startPostgres(ctx context.Context, s *settings) (url string, _ *server, err error) {
	bin, err := postgresPrograms()
	if err != nil {
		return "", nil, err
	}
	as, err := postgresAccount()
	if err != nil {
		return "", nil, err
	}
	dir := filepath.Join(s.dir, "postgres")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", nil, err
	}
	if c := as.Credential; c != nil {
		if err := os.Chown(dir, int(c.Uid), int(c.Gid)); err != nil {
			return "", nil, err
		}
	}
	port, err := freePort()
	if err != nil {
		return "", nil, err
	}
	data := filepath.Join(dir, "data")
	initdb := exec.CommandContext(ctx, filepath.Join(bin, "initdb"), "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C")
	initdb.Dir, initdb.SysProcAttr = dir, as
	if said, err := initdb.CombinedOutput(); err != nil {
		return "", nil, fmt.Errorf("initdb: %w\n%s", err, said)
	}
	url = "postgres://postgres@127.0.0.1:" + port + "/postgres?sslmode=disable"
	ready := func(ctx context.Context) error {
		conn, err := pgx.Connect(ctx, url)
		if err != nil {
			return err
		}
		return conn.Close(ctx)
	}
	server, err := startServer(ctx, dir, as, ready, filepath.Join(bin, "postgres"), "-D", data, "-p", port,
		"-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "fsync=on", "-c", "synchronous_commit=on")
	return url, server, err
}

// postgresPrograms returns the folder of initdb and postgres, which is not in the PATH on Debian.
func postgresPrograms() (string, error) {
	candidates, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	if path, err := exec.LookPath("initdb"); err == nil {
		candidates = append(candidates, filepath.Dir(path))
	}
	for _, dir := range candidates {
		_, err1 := exec.LookPath(filepath.Join(dir, "initdb"))
		_, err2 := exec.LookPath(filepath.Join(dir, "postgres"))
		if err1 == nil && err2 == nil {
			return dir, nil
		}
	}
	return "", errors.New("PostgreSQL's server programs are missing: apt-get install postgresql")
}

// postgresAccount returns the user of PostgreSQL, which refuses root. Like Redis it has its own process group, so that Ctrl-C reaches only this
// process, which then stops both in order.
func postgresAccount() (*syscall.SysProcAttr, error) {
	attr := &syscall.SysProcAttr{Setpgid: true}
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

// startRedis starts a Redis with its defaults, except for the settings below.
func startRedis(ctx context.Context, s *settings) (addr string, _ *server, err error) {
	program, err := exec.LookPath("redis-server")
	if err != nil {
		return "", nil, errors.New("Redis's server program is missing: apt-get install redis-server")
	}
	dir := filepath.Join(s.dir, "redis")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", nil, err
	}
	port, err := freePort()
	if err != nil {
		return "", nil, err
	}
	addr = "127.0.0.1:" + port
	fsync := "everysec"
	if s.strict {
		fsync = "always"
	}
	ready := func(ctx context.Context) error {
		client := redis.NewClient(&redis.Options{Addr: addr})
		defer client.Close()
		return client.Ping(ctx).Err()
	}
	server, err := startServer(ctx, dir, &syscall.SysProcAttr{Setpgid: true}, ready, program, "--bind", "127.0.0.1", "--port", port,
		"--dir", dir, "--daemonize", "no", "--save", "", "--appendonly", "yes", "--appendfsync", fsync)
	return addr, server, err
}
