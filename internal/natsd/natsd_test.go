package natsd

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/hark-jobs/hark/internal/polltest"
	"github.com/hark-jobs/hark/internal/tlstest"
)

// A restart keeps the stored data, and connections inside and outside of the process reconnect.
func TestRestart(t *testing.T) {
	s, err := Start(Options{Dir: t.TempDir(), Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	inside, err := s.Connect(nats.Timeout(time.Minute), nats.MaxReconnects(-1), nats.ReconnectWait(10*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(inside.Close)
	url := s.URL()
	outside, err := nats.Connect(url, nats.Timeout(time.Minute), nats.MaxReconnects(-1), nats.ReconnectWait(10*time.Millisecond))
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
		polltest.Nil(t, "a message is stored after the restart", func() error {
			ack, err := js.Publish(t.Context(), "s", []byte("after"))
			if err == nil {
				last = ack.Sequence
			}
			return err
		})
		if last < 2 {
			t.Errorf("the message after the restart has the sequence %d", last)
		}
	}
}

// A folder that JetStream cannot use is an error at the start, with JetStream's text.
func TestUnusableFolderFailsAtOnce(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "jetstream"), nil, 0o600); err != nil { // where a folder must be
		t.Fatal(err)
	}
	began := time.Now()
	s, err := Start(Options{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
	if err == nil {
		s.Stop()
	}
	if !errors.Is(err, ErrUnusable) || !strings.Contains(err.Error(), "storage directory is not a directory") {
		t.Errorf("%v", err)
	}
	if took := time.Since(began); took > readyTimeout/2 {
		t.Errorf("that took %v", took)
	}
}

// Other programs need the login and TLS; this process can always connect.
func TestLogin(t *testing.T) {
	files := tlstest.New(t)
	for name, c := range map[string]struct {
		options Options
		right   nats.Option
		wrong   nats.Option
	}{
		"user":  {Options{User: "hark", Password: "s3cret"}, nats.UserInfo("hark", "s3cret"), nats.UserInfo("hark", "other")},
		"token": {Options{Token: "t0ken"}, nats.Token("t0ken"), nats.Token("other")},
	} {
		t.Run(name, func(t *testing.T) {
			c.options.Dir, c.options.Listen = t.TempDir(), "127.0.0.1:0"
			c.options.CertFile, c.options.KeyFile = files.Cert, files.Key
			s, err := Start(c.options)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(s.Stop)
			inside, err := s.Connect()
			if err != nil {
				t.Fatal(err)
			}
			inside.Close()
			outside, err := nats.Connect(s.URL(), nats.Timeout(time.Minute), nats.RootCAs(files.CA), c.right)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := outside.TLSConnectionState(); err != nil {
				t.Error(err)
			}
			outside.Close()
			if _, err := nats.Connect(s.URL(), nats.Timeout(time.Minute), nats.RootCAs(files.CA), c.wrong); !errors.Is(err, nats.ErrAuthorization) {
				t.Errorf("with the wrong login: %v", err)
			}
			if _, err := nats.Connect(s.URL(), nats.Timeout(time.Minute), nats.RootCAs(files.CA)); !errors.Is(err, nats.ErrAuthorization) {
				t.Errorf("without a login: %v", err)
			}
		})
	}
}
