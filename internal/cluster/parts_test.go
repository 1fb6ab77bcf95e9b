package cluster_test

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hark-jobs/hark/internal/harkproc"
	"github.com/hark-jobs/hark/internal/joblog"
	"github.com/hark-jobs/hark/internal/natstest"
	"github.com/hark-jobs/hark/internal/pgtest"
	"github.com/hark-jobs/hark/internal/polltest"
	"github.com/hark-jobs/hark/notifier/auth"
	"github.com/nats-io/nats.go"
)

// logStream is the stream of the log.
var logStream = joblog.DefaultNamespace.LogStream()

func TestMain(m *testing.M) { os.Exit(harkproc.Main(m)) }

const (
	secret        = "a secret that only this test knows, and long enough"
	firstPassword = "the first password"
)

// parts is the cluster: three NATS servers, PostgreSQL, two notifiers and three workers. The second notifier reaches NATS
// through relays.
type parts struct {
	t         *testing.T
	log       io.Writer
	nats      *natstest.Processes
	nc        *nats.Conn // the test's own
	relays    []*natstest.Relay
	pg        *pgtest.Server
	password  string // path of the file with the password of NATS
	notifiers []*harkproc.Process
	urls      []string // of the notifiers
	workers   []*harkproc.Process
	health    []string // URLs of the workers
}

// startParts starts everything, and returns when all of it is ready.
func startParts(t *testing.T, s setting) *parts {
	t.Helper()
	p := &parts{t: t, log: logFile(t)}
	dir := t.TempDir()
	p.password = filepath.Join(dir, "nats-password")
	p.writePassword(firstPassword)
	p.pg = pgtest.Start(t)
	database := p.pg.DSN(t)
	p.nats = natstest.StartProcesses(t, p.log, 3, firstPassword)
	p.nc = p.nats.Connect(t)
	var relayed []string
	for _, addr := range p.nats.Addrs() {
		r := natstest.NewRelay(t, addr)
		p.relays, relayed = append(p.relays, r), append(relayed, r.Addr())
	}
	login := []string{"--nats-user", natstest.User, "--nats-password-file", p.password}
	setup := append([]string{"setup", "--nats", p.nats.URL(), "--replicas", "3", "--lease", s.lease.String()}, login...)
	if code := harkproc.Start(t, p.log, setup...).Wait(); code != 0 {
		t.Fatalf("hark setup ends with exit code %d", code)
	}
	start := func(name string, args ...string) *harkproc.Process {
		args = append(args, "--data", filepath.Join(dir, name), "--drain", s.drain.String())
		return harkproc.Start(t, p.log, append(args, login...)...)
	}
	for i, url := range []string{p.nats.URL(), natstest.URLOf(relayed...)} {
		addr := harkproc.FreeAddr(t)
		p.urls = append(p.urls, "http://"+addr)
		p.notifiers = append(p.notifiers, start(fmt.Sprintf("notifier-%d", i+1), "notifier", "--nats", url, "--listen", addr,
			"--jwt-secret", secret, "--database", database))
	}
	for i := range 3 {
		addr := harkproc.FreeAddr(t)
		p.health = append(p.health, "http://"+addr)
		p.workers = append(p.workers, start(fmt.Sprintf("worker-%d", i+1), "worker", "--nats", p.nats.URL(), "--listen", addr,
			"--concurrency", "sleep=16"))
	}
	p.ready()
	return p
}

// ready waits until all processes say that they are ready, and the NATS servers are whole.
func (p *parts) ready() {
	p.t.Helper()
	p.nats.Await()
	for _, url := range append(append([]string{}, p.urls...), p.health...) {
		harkproc.Ready(p.t, url)
	}
}

// writePassword changes the password that hark's processes read at their next connect.
func (p *parts) writePassword(password string) {
	p.t.Helper()
	if err := os.WriteFile(p.password+".new", []byte(password+"\n"), 0o600); err != nil {
		p.t.Fatal(err)
	}
	if err := os.Rename(p.password+".new", p.password); err != nil {
		p.t.Fatal(err)
	}
}

// leader returns which NATS server leads the log, and one that does not.
func (p *parts) leader() (leader, follower int) {
	p.t.Helper()
	leader = p.nats.Leader(p.nc, logStream)
	return leader, (leader + 1) % 3
}

// moveLeader makes another server the leader of the log.
func (p *parts) moveLeader() {
	p.t.Helper()
	before := p.nats.Leader(p.nc, logStream)
	polltest.Until(p.t, "the log has another leader", func() bool {
		_, _ = p.nc.Request("$JS.API.STREAM.LEADER.STEPDOWN."+logStream, nil, 2*time.Second)
		return p.nats.Leader(p.nc, logStream) != before
	})
}

func token(t *testing.T, user string, scopes ...string) string {
	t.Helper()
	issuer, err := auth.NewIssuer(auth.IssuerOptions{Secret: []byte(secret)})
	if err != nil {
		t.Fatal(err)
	}
	text, _, err := issuer.Issue(user, scopes, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// logFile keeps what the processes say, for when the test fails.
func logFile(t *testing.T) io.Writer {
	t.Helper()
	f, err := os.CreateTemp("", "hark-cluster-*.log")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		f.Close()
		if t.Failed() || os.Getenv("HARK_CLUSTER_LOG") != "" {
			logExcerpt(t, f.Name())
			t.Logf("what the processes said: %s", f.Name())
		} else {
			os.Remove(f.Name())
		}
	})
	return f
}

// hostOf returns the host and port of a URL of this test.
func hostOf(url string) string { return strings.TrimPrefix(url, "http://") }
