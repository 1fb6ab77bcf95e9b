package auth_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hark-jobs/hark/notifier/auth"
)

// provider is an identity provider that serves one JWKS, or responds with 503 if it has none. It is in memory, so that time
// in a synctest bubble advances during a request.
type provider struct {
	set      atomic.Pointer[[]byte]
	document atomic.Pointer[[]byte] // of discovery, if it has one
	asked    atomic.Int32
	conns    chan net.Conn
	closed   chan struct{}
	lateness time.Duration
}

const providerURL = "http://127.0.0.1/jwks.json" // nobody listens there: see dial

// newProvider sends every HTTP request of the process to the provider until the test ends.
func newProvider(t *testing.T) *provider {
	p := &provider{conns: make(chan net.Conn), closed: make(chan struct{})}
	before := http.DefaultTransport
	http.DefaultTransport = &http.Transport{DialContext: p.dial}
	server := &http.Server{Handler: p}
	done := make(chan struct{})
	go func() { defer close(done); server.Serve(p) }()
	t.Cleanup(func() {
		server.Close()
		<-done
		http.DefaultTransport = before
	})
	return p
}

func (p *provider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.asked.Add(1)
	select {
	case <-time.After(p.lateness): // in the bubble's time
	case <-r.Context().Done():
	}
	answer := &p.set
	if strings.HasSuffix(r.URL.Path, "/openid-configuration") {
		answer = &p.document
	}
	if data := answer.Load(); data != nil {
		w.Write(*data)
		return
	}
	http.Error(w, "down", http.StatusServiceUnavailable)
}

func (p *provider) publish(set []byte) { p.set.Store(&set) }

func (p *provider) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case p.conns <- server:
		return client, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *provider) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}
func (p *provider) Close() error   { close(p.closed); return nil }
func (p *provider) Addr() net.Addr { return &net.TCPAddr{} }

// start runs a verifier with the audience hark until the test ends.
func start(t *testing.T, jwksFrom string, change ...func(*auth.Options)) *auth.Verifier {
	o := auth.Options{JWKS: jwksFrom, Audience: []string{"hark"}, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))}
	for _, c := range change {
		c(&o)
	}
	v, err := auth.New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- v.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return v
}

func wantCode(t *testing.T, v *auth.Verifier, token, want string) {
	t.Helper()
	_, err := v.Verify(t.Context(), token)
	if want == "" && err != nil || want != "" && code(t, err, token) != want {
		t.Fatalf("got %v, want %q", err, want)
	}
}

func TestURLRotates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		older, newer := keyPair{"k1", rs256().method, rsaOld()}, keyPair{"k2", rs256().method, rsaKey()}
		p := newProvider(t)
		p.publish(jwks(t, older))
		p.lateness = 100 * time.Millisecond
		v := start(t, providerURL)
		oldToken := older.sign(t, nil, claimsFor("ana", nil))
		newToken := newer.sign(t, nil, claimsFor("ana", nil))

		// The first fetch is running, and the token waits for it.
		wantCode(t, v, oldToken, "")
		// A token with an unknown key causes a fetch, but not within five seconds of the last one.
		p.publish(jwks(t, older, newer))
		wantCode(t, v, newToken, auth.CodeTokenInvalid)
		time.Sleep(6 * time.Second)
		wantCode(t, v, newToken, "")
		if n := p.asked.Load(); n != 2 {
			t.Errorf("asked %d times, want 2", n)
		}
		for range 1000 {
			wantCode(t, v, rs256().sign(t, nil, claimsFor("eve", nil)), auth.CodeTokenInvalid)
		}
		if n := p.asked.Load(); n != 2 {
			t.Errorf("unknown keys made it ask %d times, want 2", n)
		}
		// A removed key is refused after the next fetch.
		p.publish(jwks(t, newer))
		time.Sleep(6 * time.Minute)
		wantCode(t, v, oldToken, auth.CodeTokenInvalid)
		wantCode(t, v, newToken, "")
		// When the provider is down, the keys stay. When it revokes all keys, they are removed.
		p.set.Store(nil)
		time.Sleep(6 * time.Minute)
		wantCode(t, v, newToken, "")
		p.publish(jwks(t))
		time.Sleep(6 * time.Minute)
		wantCode(t, v, newToken, auth.CodeTokenInvalid)
	})
}

func TestURLDownAtStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProvider(t)
		v := start(t, providerURL)
		token := es256().sign(t, nil, claimsFor("ana", nil))
		wantCode(t, v, token, auth.CodeKeysUnavailable)
		_, err := v.Verify(t.Context(), token)
		var e *auth.Error
		if !errors.As(err, &e) || e.Status() != http.StatusServiceUnavailable || e.Unwrap() == nil {
			t.Errorf("got %v, want 503 with its cause", err)
		}
		time.Sleep(30 * time.Minute)
		if n := p.asked.Load(); n < 25 || n > 45 {
			t.Errorf("asked %d times in half an hour of silence, want about one a minute", n)
		}
		p.publish(jwks(t, es256()))
		time.Sleep(time.Minute)
		wantCode(t, v, token, "")
	})
}

// TestVerifyTimesOut checks that a request ends soon when its context ends or the provider hangs.
func TestVerifyTimesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProvider(t)
		p.lateness = time.Hour
		v := start(t, providerURL)
		synctest.Wait()
		token := es256().sign(t, nil, claimsFor("ana", nil))
		began := time.Now()
		wantCode(t, v, token, auth.CodeKeysUnavailable)
		if d := time.Since(began); d > 3*time.Second {
			t.Errorf("waited %v", d)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		began = time.Now()
		if _, err := v.Verify(ctx, token); code(t, err, token) != auth.CodeKeysUnavailable || time.Since(began) != 0 {
			t.Errorf("with a context that has ended: %v after %v", err, time.Since(began))
		}
	})
}

func TestFileIsReadAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "jwks.json")
		write := func(set []byte) {
			t.Helper()
			tmp := path + ".new"
			if err := errors.Join(os.WriteFile(tmp, set, 0o600), os.Rename(tmp, path)); err != nil {
				t.Fatal(err)
			}
		}
		write(jwks(t, es256()))
		v := start(t, path)
		es, ed := es256().sign(t, nil, claimsFor("ana", nil)), eddsa().sign(t, nil, claimsFor("ana", nil))
		wantCode(t, v, es, "")
		wantCode(t, v, ed, auth.CodeTokenInvalid)

		write(jwks(t, eddsa()))
		time.Sleep(3 * time.Second)
		wantCode(t, v, ed, "")
		wantCode(t, v, es, auth.CodeTokenInvalid)

		write([]byte("half a fi"))
		time.Sleep(3 * time.Second)
		wantCode(t, v, ed, "")
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Second)
		wantCode(t, v, ed, "")

		write(jwks(t, es256(), eddsa()))
		time.Sleep(3 * time.Second)
		wantCode(t, v, es, "")
	})
}

func TestURLOverTCP(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Write(jwks(t, rs256(), es256(), eddsa()))
	}))
	defer server.Close()
	v := start(t, server.URL+"/.well-known/jwks.json")
	for _, pair := range []keyPair{rs256(), es256(), eddsa()} {
		wantCode(t, v, pair.sign(t, nil, claimsFor("ana", nil)), "")
	}
}
