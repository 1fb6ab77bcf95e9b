package harkproc

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"testing"
)

// Ports of servers are below those that systems give to connections (32768 and more on Linux, 49152 on others): a connection to
// anywhere would take a port between its choice and the start of the server, and while a server that was killed is away.
const (
	minPort = 15000
	maxPort = 32767
)

// FreePort returns a port of the loopback interface on which nothing listens. It is safe for concurrent use, also by several
// processes: they choose at random.
func FreePort() (int, error) {
	var failed error
	for range 100 {
		port := minPort + rand.N(maxPort-minPort+1)
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			return port, l.Close()
		}
		failed = errors.Join(failed, err)
	}
	return 0, fmt.Errorf("harkproc: no free port: %w", failed)
}

// FreeAddr returns an address of the loopback interface with a port of [FreePort]. A process that is killed comes back on the same
// one, as behind a balancer.
func FreeAddr(t testing.TB) string {
	t.Helper()
	port, err := FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("127.0.0.1:%d", port)
}
