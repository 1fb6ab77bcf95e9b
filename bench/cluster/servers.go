package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/hark-jobs/hark/bench/proc"
	"github.com/hark-jobs/hark/jobs"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// configVar is the environment variable that makes this program a NATS server, with the configuration at that path.
const configVar = "HARK_BENCH_NATS"

// collectSignal makes a server collect its garbage and return the memory, so that what is left is in use.
const collectSignal = syscall.SIGWINCH

// serveNATS runs a NATS server until the process is killed.
func serveNATS(config string) {
	o, err := server.ProcessConfigFile(config)
	if err != nil {
		log.Fatal(err)
	}
	s, err := server.NewServer(o)
	if err != nil {
		log.Fatal(err)
	}
	s.Start()
	collect := make(chan os.Signal, 1)
	signal.Notify(collect, collectSignal)
	go func() {
		for range collect {
			debug.FreeOSMemory()
		}
	}()
	s.WaitForShutdown()
}

// cluster is three NATS servers.
type cluster struct {
	dir     string
	clients [3]string // addresses for clients
	servers [3]*proc.Process
}

// startCluster starts three NATS servers with JetStream. The caller must call stop.
func startCluster() (_ *cluster, err error) {
	dir, err := os.MkdirTemp("", "hark-cluster-*")
	if err != nil {
		return nil, err
	}
	c := &cluster{dir: dir}
	defer func() {
		if err != nil {
			c.stop()
		}
	}()
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	var routes [3]string
	for i := range routes {
		if routes[i], err = proc.FreeAddr(); err != nil {
			return nil, err
		}
		if c.clients[i], err = proc.FreeAddr(); err != nil {
			return nil, err
		}
	}
	for i := range c.servers {
		path := filepath.Join(dir, fmt.Sprintf("n%d.conf", i))
		config := fmt.Sprintf("server_name: n%d\nlisten: %q\njetstream { store_dir: %q }\ncluster { name: bench, listen: %q, routes: [nats://%s] }\n",
			i, c.clients[i], filepath.Join(dir, fmt.Sprintf("n%d", i)), routes[i], strings.Join(routes[:], ", nats://"))
		if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
			return nil, err
		}
		if err := os.Setenv(configVar, path); err != nil {
			return nil, err
		}
		if c.servers[i], err = proc.Start(io.Discard, program); err != nil {
			return nil, err
		}
	}
	for _, addr := range c.clients {
		if err := await(addr); err != nil {
			return nil, err
		}
	}
	return c, os.Unsetenv(configVar)
}

// await waits until a server listens.
func await(addr string) error {
	for began := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			return conn.Close()
		}
		if time.Since(began) > 30*time.Second {
			return fmt.Errorf("a NATS server does not listen: %w", err)
		}
	}
}

func (c *cluster) stop() {
	for _, s := range c.servers {
		if s != nil {
			s.Kill()
		}
	}
	_ = os.RemoveAll(c.dir)
}

func (c *cluster) url(i int) string { return "nats://" + c.clients[i] }

func (c *cluster) urls() string { return "nats://" + strings.Join(c.clients[:], ",nats://") }

// memory returns the resident memory of each server.
func (c *cluster) memory() (rss [3]int64) {
	for i, s := range c.servers {
		if m, err := proc.MemoryOf(s.PID()); err == nil {
			rss[i] = m.RSS
		}
	}
	return rss
}

// disk returns the bytes that each server has on disk, its raft logs included.
func (c *cluster) disk() (bytes [3]int64) {
	for i := range bytes {
		bytes[i] = size(filepath.Join(c.dir, fmt.Sprintf("n%d", i)))
	}
	return bytes
}

// settle waits until the servers have nothing to do, and makes them return what memory they do not use.
func (c *cluster) settle() {
	for last := c.cpu(); ; {
		time.Sleep(2 * time.Second)
		now := c.cpu()
		if now-last < 200*time.Millisecond {
			break
		}
		last = now
	}
	for _, s := range c.servers {
		_ = syscall.Kill(s.PID(), collectSignal)
	}
	time.Sleep(2 * time.Second)
}

// cpu returns the CPU time of all servers.
func (c *cluster) cpu() (sum time.Duration) {
	for _, s := range c.servers {
		if t, err := proc.CPUOf(s.PID()); err == nil {
			sum += t.Total()
		}
	}
	return sum
}

const kind = "report"

// publishKind publishes a kind of jobs that no worker runs: docs/protocol.md, "Kinds".
func publishKind(ctx context.Context, nc *nats.Conn) error {
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	kinds, err := js.KeyValue(ctx, "hark_kinds")
	if err != nil {
		return err
	}
	body, err := json.Marshal(jobs.Kind{Name: kind, Title: "Report", MaxAttempts: 3})
	if err != nil {
		return err
	}
	_, err = kinds.Put(ctx, kind, body)
	return err
}
