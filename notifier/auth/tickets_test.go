package auth_test

import (
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/hark-jobs/hark/internal/natstest"
	"github.com/hark-jobs/hark/notifier/auth"
)

// newTickets returns the tickets of n processes that share one server.
func newTickets(t *testing.T, n int) []*auth.Tickets {
	t.Helper()
	s, err := server.NewServer(&server.Options{DontListen: true, JetStream: true, StoreDir: t.TempDir(), NoSigs: true})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(time.Minute) {
		t.Fatal("the NATS server does not start")
	}
	all := make([]*auth.Tickets, n)
	for i := range all {
		nc, err := nats.Connect("", nats.InProcessServer(s), nats.Timeout(time.Minute))
		if err != nil {
			t.Fatal(err)
		}
		closed := make(chan struct{})
		nc.SetClosedHandler(func(*nats.Conn) { close(closed) })
		t.Cleanup(func() { nc.Close(); <-closed })
		if all[i], err = auth.OpenTickets(natstest.Context(t), openStore(t, nc, 1)); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

func TestTicketIsRedeemedOnce(t *testing.T) {
	processes := newTickets(t, 4)
	want := auth.Identity{User: "ana.* 🦊", Scope: []string{"notify"}, ExpiresAt: time.Now().Add(time.Hour).UTC().Truncate(time.Second)}
	for range 25 {
		ticket, expiresAt, err := processes[0].Issue(natstest.Context(t), want)
		if err != nil {
			t.Fatal(err)
		}
		if left := time.Until(expiresAt); left > auth.TicketTTL || left < auth.TicketTTL-5*time.Second {
			t.Errorf("valid for %v, want %v", left, auth.TicketTTL)
		}
		var winners atomic.Int32
		var wg sync.WaitGroup
		for i := range 16 {
			wg.Go(func() {
				id, err := processes[i%len(processes)].Redeem(natstest.Context(t), ticket)
				if err != nil {
					if code(t, err, ticket) != auth.CodeTicketInvalid {
						t.Error(err)
					}
					return
				}
				winners.Add(1)
				if id.User != want.User || !id.Has("notify") || !id.ExpiresAt.Equal(want.ExpiresAt) {
					t.Errorf("got %+v, want %+v", id, want)
				}
			})
		}
		wg.Wait()
		if n := winners.Load(); n != 1 {
			t.Fatalf("%d winners, want 1", n)
		}
	}
}

func TestRedeemRefuses(t *testing.T) {
	tickets := newTickets(t, 1)[0]
	id := auth.Identity{User: "ana", ExpiresAt: time.Now().Add(time.Hour)}
	good, _, err := tickets.Issue(natstest.Context(t), id)
	if err != nil {
		t.Fatal(err)
	}
	for _, ticket := range []string{
		"", ">", "*", "$KV", strings.ToLower(good), good + "A", good[1:], strings.Repeat("A", 26), strings.Repeat(">", 26),
		strings.Repeat("A", 1<<20), good[:24] + ".A", "\x00" + good[1:],
	} {
		if _, err := tickets.Redeem(natstest.Context(t), ticket); code(t, err, "") != auth.CodeTicketInvalid {
			t.Errorf("%.40q: %v", ticket, err)
		}
	}
	if _, err := tickets.Redeem(natstest.Context(t), good); err != nil {
		t.Errorf("the good one: %v", err)
	}
	id.ExpiresAt = time.Now().Add(-time.Second)
	late, _, err := tickets.Issue(natstest.Context(t), id)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tickets.Redeem(natstest.Context(t), late); code(t, err, late) != auth.CodeTokenExpired {
		t.Errorf("of a token that has expired: %v", err)
	}
}

// A ticket of one notifier works without delay at another one, and once, although a lagging replica does not have it yet.
func TestTicketsOnCluster(t *testing.T) {
	servers := natstest.BreakableCluster(t, 3)
	open := func(i int) *auth.Tickets {
		t.Helper()
		tickets, err := auth.OpenTickets(natstest.Context(t), openStore(t, servers.ConnectTo(t, i), 3))
		if err != nil {
			t.Fatal(err)
		}
		return tickets
	}
	a, b := open(0), open(1)
	servers.Lead(0)
	servers.Lag(2, time.Second)
	for i := range 30 {
		ticket, _, err := a.Issue(natstest.Context(t), auth.Identity{User: "ana", ExpiresAt: time.Now().Add(time.Hour)})
		if err != nil {
			t.Fatal(err)
		}
		if id, err := b.Redeem(natstest.Context(t), ticket); err != nil || id.User != "ana" {
			t.Fatalf("ticket %d: %+v, %v", i, id, err)
		}
		if _, err := a.Redeem(natstest.Context(t), ticket); err == nil {
			t.Fatalf("ticket %d works twice", i)
		}
	}
}
