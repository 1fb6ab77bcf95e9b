package natstest_test

import (
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/hark-jobs/hark/internal/natstest"
	"github.com/hark-jobs/hark/internal/polltest"
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
		polltest.Nil(t, "a message is stored", func() error {
			_, err := js.Publish(ctx, "s", nil, jetstream.WithMsgID(id))
			return err
		})
	}
	// Two servers that have the stream are needed at any time, so the next one stops when the last one has caught up.
	whole := func() {
		t.Helper()
		polltest.Nil(t, "all servers have the stream", func() error {
			info, err := stream.Info(ctx)
			if err == nil && (info.Cluster == nil || info.Cluster.Leader == "" || len(info.Cluster.Replicas) != 2 ||
				slices.ContainsFunc(info.Cluster.Replicas, func(p *jetstream.PeerInfo) bool { return p.Offline || !p.Current })) {
				err = fmt.Errorf("they have %+v", info)
			}
			return err
		})
	}
	for i, id := range []string{"a", "b", "c"} {
		whole()
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

// stored returns where the stream S stands at least, by all of its replicas: a direct get is answered by any of them.
func stored(t *testing.T, nc *nats.Conn) uint64 {
	t.Helper()
	least := uint64(1 << 63)
	for range 40 {
		m, err := nc.Request("$JS.API.DIRECT.GET.S.s", nil, 10*time.Second)
		if err != nil { // nobody answers yet
			return 0
		}
		seq, _ := strconv.ParseUint(m.Header.Get(jetstream.SequenceHeader), 10, 64)
		least = min(least, seq)
	}
	return least
}

// The routes of a server can be broken in each way, and are whole again after.
func TestRoutesBreak(t *testing.T) {
	servers := natstest.BreakableCluster(t, 3)
	js, err := jetstream.New(servers.ConnectTo(t, 0))
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	_, err = js.CreateStream(ctx, jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}, Replicas: 3, AllowDirect: true,
		RePublish: &jetstream.RePublish{Source: "s", Destination: "live"}})
	if err != nil {
		t.Fatal(err)
	}
	servers.Lead(0)
	at := servers.ConnectTo(t, 2)
	live, err := at.SubscribeSync("live")
	if err != nil {
		t.Fatal(err)
	}
	publish := func() uint64 {
		t.Helper()
		var ack *jetstream.PubAck
		polltest.Until(t, "published", func() (ok bool) {
			ack, err = js.Publish(ctx, "s", nil)
			return err == nil
		})
		return ack.Sequence
	}
	heard := func() bool { m, err := live.NextMsg(10 * time.Millisecond); return err == nil && m != nil }
	polltest.Until(t, "the subscription is known", func() bool { publish(); return heard() })
	for heard() {
	}
	whole := func() {
		t.Helper()
		servers.Heal(2)
		last := publish()
		polltest.Until(t, "whole again", func() bool { return stored(t, at) >= last })
		polltest.Until(t, "heard again", func() bool { publish(); return heard() })
		servers.Lead(0)
		for heard() {
		}
	}

	servers.Lag(2, time.Second)
	last := publish()
	polltest.Until(t, "heard while its replica lags", heard)
	if got := stored(t, at); got >= last {
		t.Errorf("no replica lags behind %d", last)
	}
	polltest.Until(t, "what is late comes", func() bool { return stored(t, at) >= last })
	whole()

	servers.Lose(2, "live")
	last = publish()
	polltest.Until(t, "stored while live messages are lost", func() bool { return stored(t, at) >= last })
	if heard() {
		t.Error("a live message was not lost")
	}
	whole()

	for name, breakIt := range map[string]func(){"cut": func() { servers.Cut(2) }, "frozen": func() { servers.Freeze(2) }} {
		breakIt()
		last = publish()
		time.Sleep(100 * time.Millisecond) // enough for what must not happen to happen
		if heard() {
			t.Errorf("%s: a live message was heard", name)
		}
		servers.Heal(2)
		polltest.Until(t, name+": what was stored comes", func() bool { return stored(t, at) >= last })
		whole()
	}

	servers.Delay(2, 200*time.Millisecond)
	begun := time.Now()
	publish()
	polltest.Until(t, "heard late", heard)
	if took := time.Since(begun); took < 200*time.Millisecond {
		t.Errorf("heard after %v", took)
	}
	whole()
}
