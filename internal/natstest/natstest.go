// Package natstest starts NATS servers for tests.
package natstest

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hark-jobs/hark/internal/natsd"
)

// Connect starts a server with JetStream and an empty folder, in this process, and returns a connection to it. Both end
// with the test.
func Connect(t testing.TB) *nats.Conn {
	t.Helper()
	ns, err := natsd.Start(natsd.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(ns.Stop)
	nc, err := ns.Connect(nats.Timeout(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}
