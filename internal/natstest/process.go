package natstest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hark-jobs/hark/internal/harkproc"
	"github.com/hark-jobs/hark/internal/polltest"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// natsServer is the package of the NATS server's program, of the version that the embedded server has.
const natsServer = "github.com/nats-io/nats-server/v2"

// User is the user of [Processes].
const User = "hark"

// Processes is a cluster of NATS servers, each of which is a process of its own: it can be killed, stopped by a signal, and
// sent into lame duck mode. The routes of each can be broken, as those of a [BreakableCluster]. Clients log in as [User].
// Its methods are for one goroutine at a time.
type Processes struct {
	t         testing.TB
	dir       string
	clients   []string // host:port for clients
	monitors  []string // host:port for HTTP
	listeners []string // host:port for routes
	routes    *routes
	servers   []*harkproc.Process

	mu        sync.Mutex
	passwords []string // of each server
}

// StartProcesses starts n servers, at least two, with JetStream as one cluster. It returns when they have a leader. What they
// print goes to log. They are killed when the test ends.
func StartProcesses(t testing.TB, log io.Writer, n int, password string) *Processes {
	t.Helper()
	p := &Processes{t: t, dir: t.TempDir(), routes: newRoutes()}
	ports, err := freePorts(3 * n)
	if err != nil {
		t.Fatal(err)
	}
	local := func(port int) string { return fmt.Sprintf("127.0.0.1:%d", ports[port]) }
	for i := range n {
		p.clients, p.monitors = append(p.clients, local(3*i)), append(p.monitors, local(3*i+2))
		addr, err := p.routes.listen(serverName(i), local(3*i+1))
		if err != nil {
			t.Fatal(err)
		}
		p.listeners = append(p.listeners, addr)
		p.passwords = append(p.passwords, password)
	}
	for i := range n {
		p.configure(i, local(3*i+1))
		p.servers = append(p.servers, harkproc.StartOther(t, log, natsServer, "-c", p.config(i)))
	}
	t.Cleanup(func() {
		for _, s := range p.servers {
			s.Kill() // before their routes end
		}
		p.routes.close()
	})
	p.Await()
	return p
}

func (p *Processes) config(i int) string { return filepath.Join(p.dir, serverName(i)+".conf") }

// configure writes the configuration of server i, whose routes come in at an address.
func (p *Processes) configure(i int, routes string) {
	var others strings.Builder
	for _, addr := range p.listeners {
		fmt.Fprintf(&others, "\"nats-route://%s\", ", addr)
	}
	text := fmt.Sprintf(`server_name: %s
listen: %s
http: %s
max_payload: 1MB
authorization { user: %s, password: "%s" }
cluster {
  name: cluster
  listen: %s
  cluster_advertise: "%s"
  no_advertise: true
  ping_interval: 2s
  ping_max: 2
  routes: [%s]
}
jetstream { store_dir: "%s" }
lame_duck_grace_period: 1s
lame_duck_duration: 30s
`, serverName(i), p.clients[i], p.monitors[i], User, p.passwordOf(i), routes, p.listeners[i], &others, filepath.Join(p.dir, serverName(i)))
	if err := os.WriteFile(p.config(i), []byte(text), 0o600); err != nil {
		p.t.Fatal(err)
	}
}

// Addrs returns where the servers take clients, as host:port.
func (p *Processes) Addrs() []string { return slices.Clone(p.clients) }

// URL returns the URLs of all servers, without a login, separated by commas.
func (p *Processes) URL() string { return URLOf(p.clients...) }

// URLOf returns the URLs of servers at these addresses, separated by commas.
func URLOf(addrs ...string) string { return "nats://" + strings.Join(addrs, ",nats://") }

// Connect returns a connection of the test's own to all servers but those to avoid. It ends with the test.
func (p *Processes) Connect(t testing.TB, avoid ...int) *nats.Conn {
	t.Helper()
	var addrs []string
	for i, addr := range p.clients {
		if !slices.Contains(avoid, i) {
			addrs = append(addrs, addr)
		}
	}
	nc, err := nats.Connect(URLOf(addrs...), nats.UserInfoHandler(func() (string, string) { return User, p.passwordOf(0) }), nats.MaxReconnects(-1),
		nats.ReconnectWait(100*time.Millisecond), nats.Timeout(2*time.Second), nats.PingInterval(time.Second), nats.RetryOnFailedConnect(true), nats.IgnoreAuthErrorAbort())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// Await blocks until the servers that run have a leader, and every stream of the cluster has one and replicas that are current.
func (p *Processes) Await() {
	p.t.Helper()
	polltest.Nil(p.t, "the NATS servers are a cluster", p.whole)
}

// whole returns what the cluster lacks.
func (p *Processes) whole() error {
	for i := range p.servers {
		nc, err := nats.Connect(URLOf(p.clients[i]), nats.UserInfo(User, p.passwordOf(i)), nats.Timeout(2*time.Second))
		if err != nil {
			return err
		}
		err = p.wholeAt(nc)
		nc.Close()
		if err != nil {
			return fmt.Errorf("%s: %w", serverName(i), err)
		}
	}
	return nil
}

func (p *Processes) wholeAt(nc *nats.Conn) error {
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if _, err := js.AccountInfo(ctx); err != nil {
		return err
	}
	list := js.ListStreams(ctx)
	for info := range list.Info() {
		c := info.Cluster
		if c == nil || c.Leader == "" {
			return fmt.Errorf("%s has no leader", info.Config.Name)
		}
		for _, replica := range c.Replicas {
			if !replica.Current || replica.Offline {
				return fmt.Errorf("%s: %s lags", info.Config.Name, replica.Name)
			}
		}
	}
	return list.Err()
}

// Leader returns which server leads a stream.
func (p *Processes) Leader(nc *nats.Conn, stream string) int {
	p.t.Helper()
	js, err := jetstream.New(nc)
	if err != nil {
		p.t.Fatal(err)
	}
	leader := -1
	polltest.Nil(p.t, "the stream "+stream+" has a leader", func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		s, err := js.Stream(ctx, stream)
		if err != nil {
			return err
		}
		if leader = p.number(s.CachedInfo().Cluster.Leader); leader < 0 {
			return errors.New("it has none")
		}
		return nil
	})
	return leader
}

// MetaLeader returns which server leads the cluster. All servers must run.
func (p *Processes) MetaLeader() int {
	p.t.Helper()
	leader := -1
	polltest.Nil(p.t, "the cluster has a leader", func() error {
		res, err := http.Get("http://" + p.monitors[0] + "/jsz")
		if err != nil {
			return err
		}
		defer res.Body.Close()
		var info struct {
			Meta struct {
				Leader string `json:"leader"`
			} `json:"meta_cluster"`
		}
		if err := json.NewDecoder(res.Body).Decode(&info); err != nil {
			return err
		}
		if leader = p.number(info.Meta.Leader); leader < 0 {
			return fmt.Errorf("it is %q", info.Meta.Leader)
		}
		return nil
	})
	return leader
}

func (p *Processes) number(name string) int {
	for i := range p.clients {
		if serverName(i) == name {
			return i
		}
	}
	return -1
}

// Kill kills server i, counted from 0, as a crash would.
func (p *Processes) Kill(i int) { p.servers[i].Kill() }

// Start starts server i again, with what it has stored. It does not wait.
func (p *Processes) Start(i int) { p.servers[i].Restart() }

// Freeze stops the process of server i until [Processes.Thaw]: it stays, and does nothing.
func (p *Processes) Freeze(i int) { p.servers[i].Signal(syscall.SIGSTOP) }

// Thaw lets server i go on.
func (p *Processes) Thaw(i int) { p.servers[i].Signal(syscall.SIGCONT) }

// LameDuck tells server i to stop as an operator should: it hands over what it leads, sends its clients away, and ends after
// 30 seconds. Kill ends it sooner.
func (p *Processes) LameDuck(i int) { p.servers[i].Signal(syscall.SIGUSR2) }

// Stop stops server i with SIGTERM, and waits until it has ended.
func (p *Processes) Stop(i int) { p.servers[i].Stop() }

// CutRoutes closes the routes of server i, and lets none be opened until [Processes.HealRoutes].
func (p *Processes) CutRoutes(i int) { p.routes.set(i, func(r *rule) { r.cut = true }) }

// FreezeRoutes holds up all that server i and the others send each other until [Processes.HealRoutes].
func (p *Processes) FreezeRoutes(i int) { p.routes.set(i, func(r *rule) { r.frozen = true }) }

// HealRoutes ends what was broken of the routes of server i.
func (p *Processes) HealRoutes(i int) { p.routes.set(i, func(r *rule) { *r = rule{} }) }

func (p *Processes) passwordOf(i int) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.passwords[i]
}

// SetPassword changes the password of server i while it runs. The server closes the connections of its clients.
func (p *Processes) SetPassword(i int, password string) {
	p.t.Helper()
	p.mu.Lock()
	p.passwords[i] = password
	p.mu.Unlock()
	text, err := os.ReadFile(p.config(i))
	if err != nil {
		p.t.Fatal(err)
	}
	var out strings.Builder
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "authorization ") {
			line = fmt.Sprintf("authorization { user: %s, password: \"%s\" }\n", User, password)
		}
		out.WriteString(line)
	}
	if err := os.WriteFile(p.config(i), []byte(out.String()), 0o600); err != nil {
		p.t.Fatal(err)
	}
	p.servers[i].Signal(syscall.SIGHUP)
}

// Wait waits until server i ends by itself.
func (p *Processes) Wait(i int) { p.servers[i].Wait() }
