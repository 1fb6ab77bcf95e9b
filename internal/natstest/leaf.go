package natstest

import (
	"fmt"
	"net/url"
	"testing"

	"github.com/hark-jobs/hark/internal/polltest"
	"github.com/nats-io/nats-server/v2/server"
)

// LeafNode starts two servers: one with JetStream in a domain, and a leaf node of it with JetStream in a domain of its own,
// named leaf. It returns their URLs when they are connected. They end with the test.
func LeafNode(t testing.TB, domain string) (hubURL, leafURL string) {
	t.Helper()
	start := func(o *server.Options) *server.Server {
		t.Helper()
		o.Host, o.Port, o.JetStream, o.StoreDir, o.NoSigs, o.NoLog = "127.0.0.1", server.RANDOM_PORT, true, t.TempDir(), true, true
		s, err := server.NewServer(o)
		if err != nil {
			t.Fatal(err)
		}
		s.Start()
		t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
		if !s.ReadyForConnections(listenTimeout) {
			t.Fatal("natstest: the server does not listen")
		}
		return s
	}
	hub := start(&server.Options{ServerName: "hub", JetStreamDomain: domain, LeafNode: server.LeafNodeOpts{Host: "127.0.0.1", Port: server.RANDOM_PORT}})
	varz, err := hub.Varz(nil)
	if err != nil {
		t.Fatal(err)
	}
	remote := &url.URL{Scheme: "nats-leaf", Host: fmt.Sprintf("127.0.0.1:%d", varz.LeafNode.Port)}
	leaf := start(&server.Options{ServerName: "leaf", JetStreamDomain: "leaf",
		LeafNode: server.LeafNodeOpts{Remotes: []*server.RemoteLeafOpts{{URLs: []*url.URL{remote}}}}})
	polltest.Until(t, "the leaf node connects", func() bool { return leaf.NumLeafNodes() > 0 && hub.NumLeafNodes() > 0 })
	return hub.ClientURL(), leaf.ClientURL()
}
