package worker_test

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/hark-jobs/hark/internal/joblog"
	"github.com/hark-jobs/hark/internal/natstest"
	"github.com/hark-jobs/hark/internal/polltest"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/worker"
	"github.com/nats-io/nats.go/jetstream"
)

// A former leader of the log that took writes while it was cut off lags for minutes afterwards. When it leads the workers'
// consumer, the consumer says that there are no jobs. The workers have the leader of the log lead it.
func TestConsumerAtALaggingServer(t *testing.T) {
	t.Parallel()
	ctx, servers := natstest.Context(t), natstest.BreakableCluster(t, 3)
	q, err := joblog.Open(ctx, servers.ConnectTo(t, 1), joblog.Options{Settings: joblog.Settings{Replicas: 3}})
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t, q}
	b.start(worker.Options{Handlers: []worker.Handler{worker.Handle(jobs.Define[none](jobs.Kind{Name: "k"}), func(context.Context, *worker.Job, none) (jobs.Result, error) {
		return jobs.Result{}, nil
	})}})
	b.await(b.enqueue(jobs.Request{Kind: "k"}).ID, in(jobs.Succeeded))
	log, consumer := defaultNS.LogStream(), defaultNS.WorkerConsumer("k")
	servers.Strand(0, 60, q.Namespace().NotificationSubject("ana"), []byte(`{"type":"t","title":"T"}`))
	const old = "n1"
	polltest.Nil(t, "the former leader leads the consumer", func() error {
		if got := leaders(t, q, log, consumer).consumer; got != old {
			body, _ := json.Marshal(map[string]any{"placement": map[string]string{"preferred": old}})
			m, err := q.Conn().Request("$JS.API.CONSUMER.LEADER.STEPDOWN."+log+"."+consumer, body, time.Second)
			return fmt.Errorf("%s does; %v %v", got, m, err)
		}
		return nil
	})
	var id string
	polltest.Nil(t, "a job is stored", func() error { // a server that comes back may cause one more election
		job, _, err := q.Enqueue(ctx, jobs.Request{User: "ana", Kind: "k", IdempotencyKey: "after"})
		id = job.ID
		return err
	})
	began := time.Now()
	b.await(id, in(jobs.Succeeded))
	took := time.Since(began)
	if now := leaders(t, q, log, consumer); now.consumer == old && took > noLongerLags {
		t.Errorf("a job was run after %v, when %s no longer lagged; %+v", took, old, now)
	}
}

// noLongerLags is a time after which a job may have run since the former leader was up to date, and not since its consumer was moved.
// On a very slow machine it may be up to date before the job is enqueued.
const noLongerLags = 30 * time.Second

type leading struct{ log, consumer string }

// leaders returns which servers lead the log and a consumer.
func leaders(t *testing.T, q *joblog.Store, log, consumer string) (l leading) {
	t.Helper()
	polltest.Nil(t, "the log and the consumer have leaders", func() error {
		ctx, cancel := context.WithTimeout(natstest.Context(t), 2*time.Second)
		defer cancel()
		stream, err := q.JetStream().Stream(ctx, log)
		if err != nil {
			return err
		}
		c, err := stream.Consumer(ctx, consumer)
		if err != nil {
			return err
		}
		l = leading{stream.CachedInfo().Cluster.Leader, c.CachedInfo().Cluster.Leader}
		if l.log == "" || l.consumer == "" {
			return jetstream.ErrNoStreamResponse
		}
		return nil
	})
	return l
}
