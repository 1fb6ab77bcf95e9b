package inbox_test

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/hark-jobs/hark/internal/joblog"
	"github.com/hark-jobs/hark/internal/natstest"
	"github.com/hark-jobs/hark/internal/polltest"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/notifier/inbox"
	"github.com/nats-io/nats.go/jetstream"
)

// A server that led the log and was cut off lags for minutes afterwards. The ingester notices that its consumer is there.
func TestIngesterAtALaggingServer(t *testing.T) {
	t.Parallel()
	ctx, servers := natstest.Context(t), natstest.BreakableCluster(t, 3)
	q, err := joblog.Open(ctx, servers.ConnectTo(t, 1), joblog.Options{Settings: joblog.Settings{Replicas: 3}})
	if err != nil {
		t.Fatal(err)
	}
	store, err := inbox.Open(filepath.Join(t.TempDir(), "inbox.db"), inbox.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	servers.Strand(0, 60, defaultNS.NotificationSubject("bob"), []byte(`{"type":"t","title":"T"}`))

	f, err := inbox.NewIngester(inbox.IngesterOptions{Store: store, JetStream: q.JetStream(), Epoch: q.CurrentEpoch, BeginEpoch: q.BeginEpoch,
		Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	runs, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { f.Run(runs) })
	t.Cleanup(func() { cancel(); running.Wait() })
	polltest.Nil(t, "the ingester's consumer is on the server that lags", func() error {
		for name, leader := range leadersOf(t, q) {
			if leader == "n1" {
				return nil
			}
			if err := q.JetStream().DeleteConsumer(t.Context(), defaultNS.LogStream(), name); err != nil { // the next one may be there
				return err
			}
		}
		return errors.New("it is on another server")
	})
	polltest.Nil(t, "a notification is stored", func() error { // a server that comes back may cause one more election
		_, _, err := q.Notify(natstest.Context(t), "ana", jobs.Notification{Key: "0", Type: "t", Title: "0"})
		return err
	})
	began := time.Now()
	wantTitles(t, store, "ana", 0, 0)
	if time.Since(began) < 30*time.Second { // else the server may have been up to date
		return
	}
	for _, leader := range leadersOf(t, q) {
		if leader != "n1" {
			return
		}
	}
	t.Error("the ingester has waited until the server no longer lagged")
}

// leadersOf returns which server leads each consumer of the log.
func leadersOf(t *testing.T, q *joblog.Store) map[string]string {
	t.Helper()
	var leaders map[string]string
	polltest.Nil(t, "all consumers have leaders", func() error {
		leaders = make(map[string]string)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		stream, err := q.JetStream().Stream(ctx, defaultNS.LogStream())
		if err != nil {
			return err
		}
		names := stream.ConsumerNames(ctx)
		for name := range names.Name() {
			c, err := stream.Consumer(ctx, name)
			if errors.Is(err, jetstream.ErrConsumerNotFound) {
				continue
			}
			if err != nil {
				return err
			}
			leaders[name] = c.CachedInfo().Cluster.Leader
		}
		return names.Err()
	})
	return leaders
}
