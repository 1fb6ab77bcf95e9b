package auth_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/hark-jobs/hark/internal/joblog"
	"github.com/hark-jobs/hark/internal/natstest"
	"github.com/hark-jobs/hark/internal/polltest"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/notifier/auth"
)

// newServer returns a function that connects to one server.
func newServer(t testing.TB) (connect func() jetstream.JetStream) {
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
	return func() jetstream.JetStream {
		nc, err := nats.Connect("", nats.InProcessServer(s), nats.Timeout(time.Minute))
		if err != nil {
			t.Fatal(err)
		}
		closed := make(chan struct{})
		nc.SetClosedHandler(func(*nats.Conn) { close(closed) })
		t.Cleanup(func() { nc.Close(); <-closed })
		return must(jetstream.New(nc))
	}
}

// openStore opens the log of a server. It is closed when the test ends.
func openStore(t testing.TB, nc *nats.Conn, replicas int) *joblog.Store {
	t.Helper()
	store, err := joblog.Open(natstest.Context(t), nc, joblog.Options{
		Settings: joblog.Settings{Replicas: replicas}, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() }) // a test may have closed the connection
	return store
}

// process is a notifier's copy of the revocations.
type process struct {
	*auth.Revocations
	v *auth.Verifier

	mu       sync.Mutex
	received []auth.Revocation
}

// newProcess opens the revocations and runs them until the test ends.
func newProcess(t testing.TB, js jetstream.JetStream, maxAge time.Duration) *process {
	t.Helper()
	p := &process{}
	p.Revocations = auth.NewRevocations(auth.RevocationsOptions{MaxAge: maxAge, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
		OnRevoked: func(r auth.Revocation) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.received = append(p.received, r)
		}})
	p.v = newVerifier(t, func(o *auth.Options) { o.Revocations = p.Revocations })
	if err := p.Open(natstest.Context(t), openStore(t, js.Conn(), 1)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); p.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return p
}

func (p *process) users() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []string
	for _, r := range p.received {
		all = append(all, r.User+r.ID)
	}
	return strings.Join(all, " ")
}

// verdict returns the code of a token in a process, "" if the token is valid.
func (p *process) verdict(t testing.TB, token string) string {
	t.Helper()
	if _, err := p.v.Verify(t.Context(), token); err != nil {
		return code(t, err, token)
	}
	return ""
}

// TestRevokedUser checks that all processes refuse a user's tokens, cached ones too, and accept later ones.
func TestRevokedUser(t *testing.T) {
	connect := newServer(t)
	a, b := newProcess(t, connect(), 0), newProcess(t, connect(), 0)
	now := time.Now().Unix()
	token := func(user string, iat any) string {
		return signHS(t, secret, nil, claimsFor(user, map[string]any{"iat": iat}))
	}
	for _, user := range []string{"ana", "*", ">", "a.b", "ana maría 🦊", strings.Repeat("é", 600)} {
		old, undated, other := token(user, now-10), token(user, nil), token(user+"x", now-10)
		if len(user) == 1200 {
			other = token("bob", now-10)
		}
		for _, p := range []*process{a, b} {
			for _, one := range []string{old, undated, other} {
				if got := p.verdict(t, one); got != "" {
					t.Fatalf("%s before", got)
				}
			}
		}
		r, err := a.Revoke(natstest.Context(t), user, "")
		if err != nil || r.User != user || time.Since(r.RevokedAt) > time.Minute {
			t.Fatalf("%+v, %v", r, err)
		}
		if got := a.verdict(t, old); got != auth.CodeTokenRevoked {
			t.Errorf("%.20q: the process that revoked says %q", user, got)
		}
		polltest.Until(t, "the other process refuses it", func() bool { return b.verdict(t, old) == auth.CodeTokenRevoked })
		for _, p := range []*process{a, b} {
			if got := p.verdict(t, undated); got != auth.CodeTokenRevoked {
				t.Errorf("%.20q: a token without iat: %q", user, got)
			}
			if got := p.verdict(t, token(user, r.RevokedAt.Unix())); got != auth.CodeTokenRevoked {
				t.Errorf("%.20q: a token of the same second: %q", user, got)
			}
			if got := p.verdict(t, token(user, r.RevokedAt.Unix()+1)); got != "" {
				t.Errorf("%.20q: a new token: %q", user, got)
			}
			if got := p.verdict(t, other); got != "" {
				t.Errorf("%.20q: another user's token: %q", user, got)
			}
		}
	}
	again := newProcess(t, connect(), 0) // one that starts later
	if got := again.verdict(t, token("ana", now-10)); got != auth.CodeTokenRevoked {
		t.Errorf("a process that starts later says %q", got)
	}
	if users := b.users(); !strings.HasPrefix(users, "ana * > a.b ") || len(b.List()) != 6 {
		t.Errorf("received %.100s; listed %d", users, len(b.List()))
	}
}

// TestRevokedToken checks that a token is refused by its jti, with any user, until the revocation is lifted.
func TestRevokedToken(t *testing.T) {
	connect := newServer(t)
	a, b := newProcess(t, connect(), 0), newProcess(t, connect(), 0)
	token := func(id string) string { return signHS(t, secret, nil, claimsFor("ana", map[string]any{"jti": id})) }
	one, other, user := token("j.1 >*"), token("J.1 >*"), token("ana")
	if _, err := a.Revoke(natstest.Context(t), "", "j.1 >*"); err != nil {
		t.Fatal(err)
	}
	polltest.Until(t, "both refuse it", func() bool {
		return a.verdict(t, one) == auth.CodeTokenRevoked && b.verdict(t, one) == auth.CodeTokenRevoked
	})
	if a.verdict(t, other) != "" || b.verdict(t, other) != "" {
		t.Error("another token is refused")
	}
	if _, err := a.Revoke(natstest.Context(t), "", "ana"); err != nil { // a jti that is a user's name
		t.Fatal(err)
	}
	if a.verdict(t, user) != auth.CodeTokenRevoked || a.verdict(t, other) != "" {
		t.Error("a jti was taken for a user")
	}
	if found, err := b.Lift(natstest.Context(t), "", "j.1 >*"); !found || err != nil || b.verdict(t, one) != "" {
		t.Errorf("lifted: %v, %v, %q", found, err, b.verdict(t, one))
	}
	polltest.Until(t, "the other has received it", func() bool { return a.verdict(t, one) == "" })
	if found, err := b.Lift(natstest.Context(t), "", "j.1 >*"); found || err != nil {
		t.Errorf("lifted twice: %v, %v", found, err)
	}
	if _, err := a.Revoke(natstest.Context(t), "", "j.1 >*"); err != nil || a.verdict(t, one) != auth.CodeTokenRevoked {
		t.Errorf("revoked again: %v", err)
	}
}

// TestRevocationsAreFollowedAgain checks that revocations which the watch has missed, since the bucket was created again,
// are read.
func TestRevocationsAreFollowedAgain(t *testing.T) {
	connect := newServer(t)
	js := connect()
	// As in hark there are other streams: nats-server 2.15.2 removes the folder of all streams some time after the last stream
	// was deleted, and a stream that is created meanwhile fails.
	if _, err := js.CreateKeyValue(natstest.Context(t), jetstream.KeyValueConfig{Bucket: "other"}); err != nil {
		t.Fatal(err)
	}
	p := newProcess(t, connect(), 0)
	token, lost := signHS(t, secret, nil, claimsFor("ana", nil)), signHS(t, secret, nil, claimsFor("y", nil))
	for _, user := range []string{"x", "y", "z"} {
		if _, err := p.Revoke(natstest.Context(t), user, ""); err != nil {
			t.Fatal(err)
		}
	}
	if err := js.DeleteKeyValue(natstest.Context(t), joblog.DefaultNamespace.RevokedBucket()); err != nil {
		t.Fatal(err)
	}
	other := newProcess(t, connect(), 0)
	if _, err := other.Revoke(natstest.Context(t), "ana", ""); err != nil {
		t.Fatal(err)
	}
	polltest.Until(t, "it is refused", func() bool { return p.verdict(t, token) == auth.CodeTokenRevoked })
	// What was known before is stored again, and every process knows it.
	polltest.Until(t, "a lost one is refused by a process that came later", func() bool { return other.verdict(t, lost) == auth.CodeTokenRevoked })
	if p.verdict(t, lost) != auth.CodeTokenRevoked {
		t.Error("the process that knew it has forgotten it")
	}
}

// TestRevocationsExpire checks that with a maximum lifetime, revocations are deleted when all their tokens have expired.
func TestRevocationsExpire(t *testing.T) {
	connect := newServer(t)
	js := connect()
	p := newProcess(t, connect(), 0)
	for i := range 3 {
		if _, err := p.Revoke(natstest.Context(t), fmt.Sprint("user", i), ""); err != nil {
			t.Fatal(err)
		}
	}
	kv := must(js.KeyValue(natstest.Context(t), joblog.DefaultNamespace.RevokedBucket()))
	old := time.Now().Add(-2 * time.Hour).UTC().Format(time.RFC3339Nano)
	must(kv.PutString(natstest.Context(t), "user.YW5h", old)) // ana
	must(kv.PutString(natstest.Context(t), "jti.ai0x", old))  // j-1
	must(kv.PutString(natstest.Context(t), "user.Ym9i", "?")) // bob, with a malformed time
	must(kv.PutString(natstest.Context(t), "else.!!"[:4]+".x", "?"))
	polltest.Until(t, "it has received them", func() bool { return len(p.List()) == 6 })
	short := newProcess(t, connect(), time.Hour)
	polltest.Nil(t, "two are gone", func() error {
		_, err := kv.Get(natstest.Context(t), "jti.ai0x")
		if listed, left := len(short.List()), must(kv.Status(natstest.Context(t))).Values(); err == nil || listed != 4 || left != 5 {
			return fmt.Errorf("%d are listed and %d left, %v", listed, left, err)
		}
		return nil
	})
	if got := short.verdict(t, signHS(t, secret, nil, claimsFor("bob", nil))); got != auth.CodeTokenRevoked {
		t.Errorf("one without a time: %q", got)
	}
}

// TestRevocationsWithoutNATS checks that known revocations are refused while NATS is down, and that a new one is an error.
func TestRevocationsWithoutNATS(t *testing.T) {
	connect := newServer(t)
	js := connect()
	p := newProcess(t, js, 0)
	if _, err := p.Revoke(natstest.Context(t), "ana", ""); err != nil {
		t.Fatal(err)
	}
	js.Conn().Close()
	if _, err := p.Revoke(natstest.Context(t), "bob", ""); err == nil {
		t.Error("revoked without NATS")
	}
	if p.verdict(t, signHS(t, secret, nil, claimsFor("ana", nil))) != auth.CodeTokenRevoked ||
		p.verdict(t, signHS(t, secret, nil, claimsFor("bob", nil))) != "" {
		t.Error("the known are not refused, or others are")
	}
}

func TestCheckRevocable(t *testing.T) {
	for _, c := range []struct {
		user, id string
		ok       bool
	}{
		{"ana", "", true}, {"", "j", true}, {"", "", false}, {"ana", "j", false}, {"_all", "", false},
		{"", strings.Repeat("j", auth.MaxIDBytes), true}, {"", strings.Repeat("j", auth.MaxIDBytes+1), false}, {"", "\xff", false},
	} {
		err := auth.CheckRevocable(c.user, c.id)
		if (err == nil) != c.ok {
			t.Errorf("%q, %.9q: %v", c.user, c.id, err)
		}
		if _, known := err.(*jobs.InvalidError); !c.ok && !known {
			t.Errorf("%q, %.9q: %T", c.user, c.id, err)
		}
	}
	var none *auth.Revocations
	if err := none.Check(&auth.Identity{User: "ana"}); err != nil {
		t.Error(err)
	}
}
