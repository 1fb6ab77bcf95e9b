package natstest

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
)

// What follows breaks the routes between one server of a [BreakableCluster], counted from 0, and all others. Connections of
// clients go on. Each holds until [Servers.Heal].

// Cut closes the routes of a server, and lets none be opened.
func (s *Servers) Cut(i int) { s.routes.set(i, func(r *rule) { r.cut = true }) }

// Freeze holds up what a server sends and is sent. Its routes stay open, and what was held up comes after [Servers.Heal].
func (s *Servers) Freeze(i int) { s.routes.set(i, func(r *rule) { r.frozen = true }) }

// Delay makes all that a server sends and is sent late.
func (s *Servers) Delay(i int, d time.Duration) { s.routes.set(i, func(r *rule) { r.delay = d }) }

// Lag makes what the leaders of streams send to a server to be stored late, and nothing else: its replicas lag. A second
// is enough for a test. With three, less on a busy machine, it takes the leaders for lost, and elections hold up all writes.
func (s *Servers) Lag(i int, d time.Duration) { s.routes.set(i, func(r *rule) { r.lag = d }) }

// Lose drops what a server is sent on subjects that begin with prefix.
func (s *Servers) Lose(i int, prefix string) { s.routes.set(i, func(r *rule) { r.lose = prefix }) }

// Heal ends all that was broken of a server's routes.
func (s *Servers) Heal(i int) { s.routes.set(i, func(r *rule) { *r = rule{} }) }

// Lead makes a server the leader of all streams. It blocks until it is, and all replicas are current and answer direct gets.
func (s *Servers) Lead(i int) {
	s.t.Helper()
	nc := s.ConnectTo(s.t, i)
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), clusterTimeout)
	defer cancel()
	body, err := json.Marshal(map[string]any{"placement": map[string]string{"preferred": serverName(i)}})
	if err != nil {
		s.t.Fatal(err)
	}
	list := js.StreamNames(ctx)
	for name := range list.Name() {
		var asked time.Time
		for {
			leader, err := s.leader(ctx, js, name)
			if err == nil && leader == serverName(i) {
				break
			}
			if ctx.Err() != nil {
				s.t.Fatalf("natstest: server %d does not become the leader of %s, which %q leads: %v", i, name, leader, err)
			}
			if err == nil && time.Since(asked) > stepDownPause {
				asked = time.Now()
				_, _ = nc.Request("$JS.API.STREAM.LEADER.STEPDOWN."+name, body, time.Second)
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
	if err := list.Err(); err != nil {
		s.t.Fatal(err)
	}
}

// stepDownPause is how long a leader is left alone before it is asked to step down again. A replica that catches up begins
// again with each new leader, up to five seconds later. Meanwhile it cannot be elected: leaders that step down more often than
// that can keep it from ever leading.
const stepDownPause = 10 * time.Second

// leader returns which server leads a stream, and an error unless all replicas have what it has.
func (s *Servers) leader(ctx context.Context, js jetstream.JetStream, stream string) (leader string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	found, err := js.Stream(ctx, stream)
	if err != nil {
		return "", err
	}
	info := found.CachedInfo()
	if info.Cluster == nil || info.Cluster.Leader == "" {
		return "", fmt.Errorf("no server leads: %+v", info.Cluster)
	}
	leader = info.Cluster.Leader
	if len(info.Cluster.Replicas) != info.Config.Replicas-1 {
		return leader, fmt.Errorf("it has %d of %d replicas", len(info.Cluster.Replicas)+1, info.Config.Replicas)
	}
	for _, replica := range info.Cluster.Replicas {
		if !replica.Current {
			return leader, fmt.Errorf("%s lags", replica.Name)
		}
		// A replica begins to answer up to two seconds after it is current. Until then others answer for it.
		if info.Config.AllowDirect && !s.answers(replica.Name, "$JS.API.DIRECT.GET."+stream) {
			return leader, fmt.Errorf("%s does not answer direct gets", replica.Name)
		}
	}
	return leader, nil
}

// answers reports whether a server itself has subscribed to a subject, for the account of all.
func (s *Servers) answers(name, subject string) bool {
	for _, ns := range s.servers {
		if ns == nil || ns.Name() != name {
			continue
		}
		subs, err := ns.Subsz(&server.SubszOptions{Subscriptions: true, Account: server.DEFAULT_GLOBAL_ACCOUNT, Test: subject})
		return err == nil && slices.ContainsFunc(subs.Subs, func(d server.SubDetail) bool { return d.Subject == subject })
	}
	return false
}
