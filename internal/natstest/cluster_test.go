package natstest_test

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/hark-jobs/hark/internal/natstest"
)

// A stream on three servers takes messages with one of them stopped, whichever it is, and has all of them in the end.
func TestCluster(t *testing.T) {
	servers := natstest.Cluster(t, 3)
	if n := len(servers.URLs()); n != 3 {
		t.Fatalf("%d addresses", n)
	}
	js, err := jetstream.New(servers.Connect(t))
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	stream, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}, Replicas: 3})
	if err != nil {
		t.Fatal(err)
	}
	publish := func(id string) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); ; {
			_, err := js.Publish(ctx, "s", nil, jetstream.WithMsgID(id))
			if err == nil {
				return
			}
			if time.Now().After(deadline) {
				t.Fatal(err)
			}
		}
	}
	for i, id := range []string{"a", "b", "c"} {
		servers.Stop(i)
		publish(id)
		servers.Restart(i)
	}
	publish("d")
	info, err := stream.Info(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if info.State.Msgs != 4 || info.Cluster == nil || len(info.Cluster.Replicas) != 2 {
		t.Errorf("%+v in %+v", info.State, info.Cluster)
	}
}
