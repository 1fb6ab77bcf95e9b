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
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("the NATS server does not start")
	}
	return func() jetstream.JetStream {
		nc, err := nats.Connect("", nats.InProcessServer(s))
		if err != nil {
			t.Fatal(err)
		}
		closed := make(chan struct{})
		nc.SetClosedHandler(func(*nats.Conn) { close(closed) })
		t.Cleanup(func() { nc.Close(); <-closed })
		return must(jetstream.New(nc))
	}
}

// process is what one notifier knows of revocations.
type process struct {
	*auth.Revocations
	v *auth.Verifier

	mu   sync.Mutex
	told []auth.Revocation
}

// newProcess opens the revocations and follows them until the test ends.
func newProcess(t testing.TB, js jetstream.JetStream, maxAge time.Duration) *process {
	t.Helper()
	p := &process{}
	p.Revocations = auth.NewRevocations(auth.RevocationsOptions{MaxAge: maxAge, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
		OnRevoked: func(r auth.Revocation) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.told = append(p.told, r)
		}})
	p.v = newVerifier(t, func(o *auth.Options) { o.Revocations = p.Revocations })
	if err := p.Open(t.Context(), js, 1); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); p.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return p
}

func (p *process) heard() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []string
	for _, r := range p.told {
		all = append(all, r.User+r.ID)
	}
	return strings.Join(all, " ")
}

// eventually polls until ok holds.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("in vain waited until ", what)
		}
	}
}

// verdict is the code that a process has for a token, empty if it is good.
func (p *process) verdict(t testing.TB, token string) string {
	t.Helper()
	if _, err := p.v.Verify(t.Context(), token); err != nil {
		return code(t, err, token)
	}
	return ""
}

// TestRevokedUser holds that a user's tokens are refused by all processes, also those seen before, and later ones are not.
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
		r, err := a.Revoke(t.Context(), user, "")
		if err != nil || r.User != user || time.Since(r.RevokedAt) > time.Minute {
			t.Fatalf("%+v, %v", r, err)
		}
		if got := a.verdict(t, old); got != auth.CodeTokenRevoked {
			t.Errorf("%.20q: the process that revoked says %q", user, got)
		}
		eventually(t, "the other process refuses it", func() bool { return b.verdict(t, old) == auth.CodeTokenRevoked })
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
	if heard := b.heard(); !strings.HasPrefix(heard, "ana * > a.b ") || len(b.List()) != 6 {
		t.Errorf("told of %.100s; listed %d", heard, len(b.List()))
	}
}

// TestRevokedToken holds that one token is refused by its jti, whoever's it is, until that is lifted.
func TestRevokedToken(t *testing.T) {
	connect := newServer(t)
	a, b := newProcess(t, connect(), 0), newProcess(t, connect(), 0)
	token := func(id string) string { return signHS(t, secret, nil, claimsFor("ana", map[string]any{"jti": id})) }
	one, other, user := token("j.1 >*"), token("J.1 >*"), token("ana")
	if _, err := a.Revoke(t.Context(), "", "j.1 >*"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "both refuse it", func() bool {
		return a.verdict(t, one) == auth.CodeTokenRevoked && b.verdict(t, one) == auth.CodeTokenRevoked
	})
	if a.verdict(t, other) != "" || b.verdict(t, other) != "" {
		t.Error("another token is refused")
	}
	if _, err := a.Revoke(t.Context(), "", "ana"); err != nil { // a jti that is a user's name
		t.Fatal(err)
	}
	if a.verdict(t, user) != auth.CodeTokenRevoked || a.verdict(t, other) != "" {
		t.Error("a jti was taken for a user")
	}
	if found, err := b.Lift(t.Context(), "", "j.1 >*"); !found || err != nil || b.verdict(t, one) != "" {
		t.Errorf("lifted: %v, %v, %q", found, err, b.verdict(t, one))
	}
	eventually(t, "the other has heard it", func() bool { return a.verdict(t, one) == "" })
	if found, err := b.Lift(t.Context(), "", "j.1 >*"); found || err != nil {
		t.Errorf("lifted twice: %v, %v", found, err)
	}
	if _, err := a.Revoke(t.Context(), "", "j.1 >*"); err != nil || a.verdict(t, one) != auth.CodeTokenRevoked {
		t.Errorf("revoked again: %v", err)
	}
}

// TestRevocationsAreFollowedAgain holds that what the watch did not hear, since the bucket was remade meanwhile, is read.
func TestRevocationsAreFollowedAgain(t *testing.T) {
	connect := newServer(t)
	js := connect()
	// As in hark there are other streams: nats-server 2.15.2 removes the folder of all streams some time after the last one
	// was deleted, and one that is created meanwhile fails for it.
	if _, err := js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "other"}); err != nil {
		t.Fatal(err)
	}
	p := newProcess(t, connect(), 0)
	token := signHS(t, secret, nil, claimsFor("ana", nil))
	for _, user := range []string{"x", "y", "z"} {
		if _, err := p.Revoke(t.Context(), user, ""); err != nil {
			t.Fatal(err)
		}
	}
	if err := js.DeleteKeyValue(t.Context(), "hark_revoked"); err != nil {
		t.Fatal(err)
	}
	other := newProcess(t, connect(), 0)
	if _, err := other.Revoke(t.Context(), "ana", ""); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is refused", func() bool { return p.verdict(t, token) == auth.CodeTokenRevoked })
}

// TestRevocationsExpire holds that with a longest lifetime nothing is kept that has nothing left to refuse.
func TestRevocationsExpire(t *testing.T) {
	connect := newServer(t)
	js := connect()
	p := newProcess(t, connect(), 0)
	for i := range 3 {
		if _, err := p.Revoke(t.Context(), fmt.Sprint("user", i), ""); err != nil {
			t.Fatal(err)
		}
	}
	kv := must(js.KeyValue(t.Context(), "hark_revoked"))
	old := time.Now().Add(-2 * time.Hour).UTC().Format(time.RFC3339Nano)
	must(kv.PutString(t.Context(), "user.YW5h", old)) // ana
	must(kv.PutString(t.Context(), "jti.ai0x", old))  // j-1
	must(kv.PutString(t.Context(), "user.Ym9i", "?")) // bob, by whom knows when
	must(kv.PutString(t.Context(), "else.!!"[:4]+".x", "?"))
	eventually(t, "it has heard them", func() bool { return len(p.List()) == 6 })
	short := newProcess(t, connect(), time.Hour)
	eventually(t, "two are gone", func() bool {
		_, err := kv.Get(t.Context(), "jti.ai0x")
		return err != nil && len(short.List()) == 4
	})
	if status := must(kv.Status(t.Context())); status.Values() != 5 {
		t.Errorf("%d are left", status.Values())
	}
	if got := short.verdict(t, signHS(t, secret, nil, claimsFor("bob", nil))); got != auth.CodeTokenRevoked {
		t.Errorf("one without a time: %q", got)
	}
}

// TestRevocationsWithoutNATS holds that what is known is refused while NATS is gone, and that a new one is an error.
func TestRevocationsWithoutNATS(t *testing.T) {
	connect := newServer(t)
	js := connect()
	p := newProcess(t, js, 0)
	if _, err := p.Revoke(t.Context(), "ana", ""); err != nil {
		t.Fatal(err)
	}
	js.Conn().Close()
	if _, err := p.Revoke(t.Context(), "bob", ""); err == nil {
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
