package natsd

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// After a restart, what was stored is there, and connections inside and outside of the process go on.
func TestRestart(t *testing.T) {
	s, err := Start(Options{Dir: t.TempDir(), Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	inside, err := s.Connect(nats.MaxReconnects(-1), nats.ReconnectWait(10*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(inside.Close)
	url := s.URL()
	outside, err := nats.Connect(url, nats.MaxReconnects(-1), nats.ReconnectWait(10*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(outside.Close)
	js, err := jetstream.New(inside)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(t.Context(), "s", []byte("before")); err != nil {
		t.Fatal(err)
	}
	if err := s.restart(); err != nil {
		t.Fatal(err)
	}
	if s.URL() != url {
		t.Errorf("it listens on %s, and did on %s", s.URL(), url)
	}
	for _, nc := range []*nats.Conn{inside, outside} {
		js, err := jetstream.New(nc)
		if err != nil {
			t.Fatal(err)
		}
		var last uint64
		for end := time.Now().Add(30 * time.Second); last < 2 && time.Now().Before(end); {
			if ack, err := js.Publish(t.Context(), "s", []byte("after")); err == nil {
				last = ack.Sequence
			}
		}
		if last < 2 {
			t.Errorf("nothing is stored after the restart")
		}
	}
}
