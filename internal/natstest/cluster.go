package natstest

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hark-jobs/hark/internal/harkproc"
	"github.com/hark-jobs/hark/internal/polltest"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"
)

const (
	// listenTimeout is how long a server may take to listen. One that takes longer did not get its ports.
	listenTimeout = 20 * time.Second
	// clusterTimeout is how long the servers may take to find each other and elect a leader.
	clusterTimeout = 3 * time.Minute
)

// Servers is a cluster of NATS servers in this process. Its methods are for one goroutine, that of the test.
type Servers struct {
	t       testing.TB
	dirs    []string
	options []*server.Options
	servers []*server.Server // nil for one that is stopped
	routes  *routes          // nil if the servers reach each other directly

	breakable bool
}

// Cluster starts n servers, at least two, with JetStream as one cluster: on free ports of the loopback address, each
// with a folder of its own. It returns when they have a leader that knows all of them. They end with the test.
func Cluster(t testing.TB, n int) *Servers {
	t.Helper()
	return cluster(t, n, false)
}

// BreakableCluster is [Cluster] with routes that can be broken, see [Servers.Cut]. For that all that the servers send each
// other passes through the test, which takes more CPU time.
func BreakableCluster(t testing.TB, n int) *Servers {
	t.Helper()
	return cluster(t, n, true)
}

func cluster(t testing.TB, n int, breakable bool) *Servers {
	t.Helper()
	if n < 2 {
		t.Fatalf("natstest: a cluster of %d: it takes two servers", n)
	}
	s := &Servers{t: t, servers: make([]*server.Server, n), breakable: breakable}
	for range n {
		s.dirs = append(s.dirs, t.TempDir())
	}
	t.Cleanup(s.stopAll) // before the folders are removed
	var err error
	for range 5 {
		// Somebody may take a port between its choice and its use: then all ports are chosen again.
		err = s.listen()
		if err == nil {
			s.await()
			return s
		}
		s.stopAll()
	}
	t.Fatal(err)
	return nil
}

// listen chooses ports and starts all servers.
func (s *Servers) listen() error {
	ports, err := freePorts(2 * len(s.servers))
	if err != nil {
		return err
	}
	if s.breakable {
		s.routes = newRoutes()
	}
	// Each is given the routes to all: the number of them is how many servers it expects before there is a leader.
	var routes []*url.URL
	for i := range s.servers {
		addr := fmt.Sprintf("127.0.0.1:%d", ports[2*i])
		if s.breakable {
			if addr, err = s.routes.listen(serverName(i), addr); err != nil {
				return fmt.Errorf("natstest: %w", err)
			}
		}
		routes = append(routes, &url.URL{Scheme: "nats-route", Host: addr})
	}
	s.options = nil
	name := "natstest-" + nuid.Next() // servers of other tests, which may be given a port that was one's of these, are no part of it
	for i, dir := range s.dirs {
		s.options = append(s.options, &server.Options{
			ServerName: serverName(i), Host: "127.0.0.1", Port: ports[2*i+1],
			JetStream: true, StoreDir: dir, MaxPayload: 1 << 20, NoSigs: true, NoLog: true,
			Cluster: server.ClusterOpts{Name: name, Host: "127.0.0.1", Port: ports[2*i], Advertise: routes[i].Host},
			Routes:  routes,
		})
		if err := s.start(i); err != nil {
			return err
		}
	}
	return nil
}

func serverName(i int) string { return fmt.Sprintf("n%d", i+1) }

// freePorts returns different ports of the loopback address that nobody listens on.
func freePorts(n int) (ports []int, err error) {
	for len(ports) < n {
		port, err := harkproc.FreePort()
		if err != nil {
			return nil, fmt.Errorf("natstest: %w", err)
		}
		if !slices.Contains(ports, port) {
			ports = append(ports, port)
		}
	}
	return ports, nil
}

// start starts server i and returns when it listens.
func (s *Servers) start(i int) error {
	ns, err := server.NewServer(s.options[i].Clone()) // the server writes on what it is given
	if err != nil {
		return fmt.Errorf("natstest: server %d: %w", i, err)
	}
	s.servers[i] = ns
	ns.Start()
	if !ns.ReadyForConnections(listenTimeout) {
		return fmt.Errorf("natstest: server %d does not listen", i)
	}
	return nil
}

// await blocks until the servers that run have a leader that they follow, and that knows all servers.
func (s *Servers) await() {
	s.t.Helper()
	polltest.Until(s.t, "the servers become a cluster", s.ready)
}

func (s *Servers) ready() bool {
	led := false
	for _, ns := range s.servers {
		if ns == nil {
			continue
		}
		if !ns.JetStreamIsCurrent() {
			return false
		}
		led = led || ns.JetStreamIsLeader() && len(ns.JetStreamClusterPeers()) == len(s.servers)
	}
	return led
}

// URLs are where the servers take connections, those that are stopped among them: all stay the same.
func (s *Servers) URLs() []string {
	var urls []string
	for _, o := range s.options {
		urls = append(urls, fmt.Sprintf("nats://%s:%d", o.Host, o.Port))
	}
	return urls
}

// Connect returns a connection that ends with the test. It goes to any of the servers, and to another when that stops.
func (s *Servers) Connect(t testing.TB) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect(strings.Join(s.URLs(), ","), nats.Timeout(time.Minute), nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// ConnectTo returns a connection to server i, counted from 0, that ends with the test and goes to no other server.
func (s *Servers) ConnectTo(t testing.TB, i int, options ...nats.Option) *nats.Conn {
	t.Helper()
	options = append([]nats.Option{nats.Timeout(time.Minute), nats.MaxReconnects(-1), nats.ReconnectWait(50 * time.Millisecond), nats.IgnoreDiscoveredServers()}, options...)
	nc, err := nats.Connect(s.URLs()[i], options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// Stop stops server i, counted from 0, in an orderly way. What it has stored stays for [Servers.Restart].
func (s *Servers) Stop(i int) {
	if ns := s.servers[i]; ns != nil {
		ns.Shutdown()
		ns.WaitForShutdown()
		s.servers[i] = nil
	}
}

// Start starts server i, which was stopped, and returns when it listens. The servers may not be a cluster then.
func (s *Servers) Start(i int) {
	s.t.Helper()
	if err := s.start(i); err != nil {
		s.t.Fatal(err)
	}
}

// Restart starts server i again, after stopping it if it runs, and returns when it follows the cluster's leader. For
// that most of the servers must run.
func (s *Servers) Restart(i int) {
	s.t.Helper()
	s.Stop(i)
	if err := s.start(i); err != nil {
		s.t.Fatal(err)
	}
	s.await()
}

func (s *Servers) stopAll() {
	for i := range s.servers {
		s.Stop(i)
	}
	if s.routes != nil {
		s.routes.close()
		s.routes = nil
	}
}
