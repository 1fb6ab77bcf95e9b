package deploy_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// restored makes a backup of the project by docs/backup.md, takes the project down, and restores the backup to a fresh project with its own volumes and
// secrets. It returns the new project when everything is healthy.
func (p *project) restored() *project {
	p.t.Helper()
	dir := p.t.TempDir()
	if err := os.Chmod(dir, 0o777); err != nil { // hark is the user 65532 in its container
		p.t.Fatal(err)
	}
	dump := filepath.Join(dir, "inbox.dump")
	p.step("the inbox is dumped", func() {
		p.pipe("", dump, "exec", "-T", "postgres", "pg_dump", "--username=hark", "--format=custom", "hark")
	})
	p.step("hark backup", func() {
		p.t.Log(p.do("run", "--rm", "--no-deps", "-v", dir+":/backup", "setup", "backup", "/backup/nats"))
	})
	p.step("down", func() { p.do("down") })

	fresh := newProject(p.t, p.compose)
	fresh.step("a fresh project has NATS and PostgreSQL alone", func() {
		fresh.do("up", "--detach", "--no-build", "nats-1", "nats-2", "nats-3", "postgres")
		fresh.until("PostgreSQL answers", time.Minute, func() bool {
			args := append(fresh.command(), "exec", "-T", "postgres", "pg_isready", "--quiet", "--host=127.0.0.1", "--username=hark")
			cmd := exec.Command(args[0], args[1:]...)
			cmd.Env = fresh.env()
			return cmd.Run() == nil
		}, func() string { return "it does not" })
	})
	fresh.step("the inbox is restored", func() {
		fresh.pipe(dump, "", "exec", "-T", "postgres", "pg_restore", "--username=hark", "--no-owner", "--dbname=hark")
	})
	fresh.step("hark restore", func() {
		p.t.Log(fresh.do("run", "--rm", "--no-deps", "-v", dir+":/backup:ro", "setup", "restore", "/backup/nats"))
	})
	fresh.step("up, and everything is healthy", fresh.up)
	return fresh
}

// pipe runs a command of Compose with files as its input and output, unless their names are empty.
func (p *project) pipe(in, out string, args ...string) {
	p.t.Helper()
	args = append(p.command(), args...)
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env, cmd.Stderr = p.env(), p.t.Output()
	for _, f := range []struct {
		name string
		use  func(*os.File)
		flag int
	}{{in, func(f *os.File) { cmd.Stdin = f }, os.O_RDONLY}, {out, func(f *os.File) { cmd.Stdout = f }, os.O_WRONLY | os.O_CREATE}} {
		if f.name == "" {
			continue
		}
		file, err := os.OpenFile(f.name, f.flag, 0o600)
		if err != nil {
			p.t.Fatal(err)
		}
		defer file.Close()
		f.use(file)
	}
	if err := cmd.Run(); err != nil {
		p.t.Fatalf("%v: %v", args, err)
	}
}
