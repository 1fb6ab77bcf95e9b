package inbox_test

import (
	"net"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/hark-jobs/hark/internal/polltest"
	"github.com/hark-jobs/hark/notifier/inbox"
)

// embedded lets a connection find the current server, like an address.
type embedded struct{ at *current }

func (p embedded) InProcessConn() (net.Conn, error) {
	p.at.mu.Lock()
	defer p.at.mu.Unlock()
	return p.at.Server.InProcessConn()
}

// NATS is down for a while, with messages in transit.
func TestIngestOutlivesNATS(t *testing.T) {
	stores(t, func(t *testing.T, store *inbox.Store) {
		s := newStream(t)
		nc, err := nats.Connect("", nats.InProcessServer(embedded{s.at}), nats.Timeout(time.Minute), nats.MaxReconnects(-1), nats.ReconnectWait(10*time.Millisecond))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		if s.js, err = jetstream.New(nc); err != nil {
			t.Fatal(err)
		}
		s.ingest(store, func(o *inbox.IngesterOptions) { o.JetStream = s.js })
		total := 0
		for range 3 {
			for range 500 {
				s.notify("ana", total)
				total++
			}
			s.at.stop()
			s.at.set(startNATS(t, s.at.dir))
			polltest.Until(t, "the connection", nc.IsConnected)
		}
		wantTitles(t, store, "ana", 0, total-1)
	})
}
