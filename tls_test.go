package hark_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hark-jobs/hark"
	"github.com/hark-jobs/hark/internal/logtest"
	"github.com/hark-jobs/hark/internal/polltest"
	"github.com/hark-jobs/hark/internal/tlstest"
	"github.com/hark-jobs/hark/jobs"
)

// secured is a hark that speaks TLS.
type secured struct {
	*hark.Server
	t     *testing.T
	files tlstest.Files
	roots *x509.CertPool
	stop  func()
}

func startTLS(t *testing.T, change ...func(*hark.Options)) *secured {
	t.Helper()
	s := &secured{t: t, files: tlstest.New(t), roots: x509.NewCertPool()}
	s.trust(s.files)
	options := hark.Options{
		Only: hark.Notifier, Data: t.TempDir(), Listen: "127.0.0.1:0", Drain: 2 * time.Second, Logger: slog.New(slog.DiscardHandler),
		JWTSecret: hark.Secret{Value: "0123456789abcdef0123456789abcdef"}, TLSCert: s.files.Cert, TLSKey: s.files.Key,
	}
	for _, c := range change {
		c(&options)
	}
	s.Server, s.stop = start(t, options)
	return s
}

func (s *secured) trust(files tlstest.Files) {
	s.t.Helper()
	pem, err := os.ReadFile(files.CA)
	if err != nil || !s.roots.AppendCertsFromPEM(pem) {
		s.t.Fatal(err)
	}
}

// client speaks HTTP/2, or HTTP/1.1, over connections of its own.
func (s *secured) client(http2 bool) *http.Client {
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.roots}, ForceAttemptHTTP2: http2}
	s.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func (s *secured) token(user string, scope ...string) string {
	s.t.Helper()
	issuer, err := s.Issuer()
	if err != nil {
		s.t.Fatal(err)
	}
	token, _, err := issuer.Issue(user, scope, time.Hour)
	if err != nil {
		s.t.Fatal(err)
	}
	return token
}

func (s *secured) call(c *http.Client, method, path, body, token string, header ...string) *http.Response {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	req, err := http.NewRequestWithContext(ctx, method, s.URL()+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := c.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { res.Body.Close(); cancel() })
	return res
}

func (s *secured) notify(c *http.Client, title string) jobs.NotificationID {
	s.t.Helper()
	res := s.call(c, "POST", "/v1/notifications", `{"user":"ana","type":"t","title":"`+title+`"}`, s.token("service", "notify"))
	var n struct{ ID string }
	if err := json.NewDecoder(res.Body).Decode(&n); err != nil || res.StatusCode != 201 {
		s.t.Fatal(res.Status, err)
	}
	id, err := jobs.ParseNotificationID(n.ID)
	if err != nil {
		s.t.Fatal(err)
	}
	return id
}

// until reads a stream up to a line that holds a text.
func until(t *testing.T, lines *bufio.Scanner, text string) {
	t.Helper()
	for lines.Scan() {
		if strings.Contains(lines.Text(), text) {
			return
		}
	}
	t.Fatalf("the stream ended before %q: %v", text, lines.Err())
}

// With a certificate hark speaks HTTP/2 and HTTP/1.1, streams resume on both and say bye, and the cookie is for TLS alone.
func TestTLS(t *testing.T) {
	s := startTLS(t)
	if !strings.HasPrefix(s.URL(), "https://") {
		t.Error(s.URL())
	}
	streams := make(map[string]*bufio.Scanner)
	for proto, client := range map[string]*http.Client{"HTTP/2.0": s.client(true), "HTTP/1.1": s.client(false)} {
		first := s.notify(client, "one")
		s.notify(client, "two")
		res := s.call(client, "GET", "/v1/stream", "", s.token("ana"), "Last-Event-ID", first.Position().String())
		if res.Proto != proto || res.StatusCode != 200 || res.Header.Get("Content-Type") != "text/event-stream" {
			t.Fatal(res.Proto, res.Status, res.Header)
		}
		streams[proto] = bufio.NewScanner(res.Body)
		until(t, streams[proto], `"two"`)
		s.notify(client, "three")
		until(t, streams[proto], `"three"`)
		session := s.call(client, "POST", "/v1/session", "", s.token("ana"))
		for _, c := range session.Cookies() {
			if !c.Secure || !c.HttpOnly {
				t.Errorf("%s: %s", proto, c.Raw)
			}
		}
		if len(session.Cookies()) == 0 {
			t.Errorf("%s: %s sets no cookie", proto, session.Status)
		}
		if res := s.call(client, "GET", "/readyz", "", ""); res.StatusCode != 200 {
			t.Error(res.Status)
		}
	}
	old := &tls.Config{RootCAs: s.roots, MaxVersion: tls.VersionTLS11}
	if conn, err := tls.Dial("tcp", strings.TrimPrefix(s.URL(), "https://"), old); err == nil {
		conn.Close()
		t.Error("TLS 1.1 is spoken")
	}
	s.stop()
	for proto, lines := range streams {
		for until(t, lines, `"shutting_down"`); lines.Scan(); {
			if lines.Text() != "" {
				t.Errorf("%s: %q comes after bye", proto, lines.Text())
			}
		}
		if lines.Err() != nil {
			t.Errorf("%s: %v", proto, lines.Err())
		}
	}
}

// Many streams and calls share one connection.
func TestHTTP2SharesAConnection(t *testing.T) {
	s := startTLS(t)
	client, dialed := s.client(true), 0
	client.Transport.(*http.Transport).DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		dialed++
		return new(net.Dialer).DialContext(ctx, network, addr)
	}
	for range 20 {
		res := s.call(client, "GET", "/v1/stream", "", s.token("ana"))
		until(t, bufio.NewScanner(res.Body), "event: hello")
	}
	res := s.call(client, "GET", "/metrics", "", "")
	metrics, err := io.ReadAll(res.Body)
	if err != nil || !strings.Contains(string(metrics), "hark_streams 20\n") || !strings.Contains(string(metrics), "hark_tls_certificate_expires_seconds 1.") {
		t.Errorf("%v %s", err, metrics)
	}
	if dialed != 1 {
		t.Errorf("%d connections", dialed)
	}
}

// A body that does not arrive over HTTP/2 is refused in time, and what else is on the connection goes on.
func TestHTTP2BodyTooSlow(t *testing.T) {
	s := startTLS(t, func(o *hark.Options) { o.Deadlines.Body = 300 * time.Millisecond })
	client := s.client(true)
	res := s.call(client, "GET", "/v1/stream", "", s.token("ana"))
	lines := bufio.NewScanner(res.Body)
	until(t, lines, "event: hello")
	body, writer := io.Pipe()
	defer writer.Close()
	go func() { _, _ = writer.Write([]byte(`{"kind":`)) }()
	req, err := http.NewRequestWithContext(t.Context(), "POST", s.URL()+"/v1/jobs", body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+s.token("ana"))
	late, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer late.Body.Close()
	if text, _ := io.ReadAll(late.Body); late.StatusCode != 408 || !strings.Contains(string(text), "body_too_slow") {
		t.Errorf("%s %s", late.Status, text)
	}
	s.notify(client, "still here")
	until(t, lines, "still here")
}

// A certificate that is replaced is used from then on, one that is broken is not, and streams that are open go on.
func TestCertificateIsReadAgain(t *testing.T) {
	log := new(logtest.Buffer)
	s := startTLS(t, func(o *hark.Options) { o.Logger = slog.New(slog.NewTextHandler(log, nil)) })
	res := s.call(s.client(true), "GET", "/v1/stream", "", s.token("ana"))
	lines := bufio.NewScanner(res.Body)
	until(t, lines, "event: hello")
	serves := func(cert []byte) bool {
		t.Helper()
		conn, err := tls.Dial("tcp", strings.TrimPrefix(s.URL(), "https://"), &tls.Config{RootCAs: s.roots})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		pair, err := tls.X509KeyPair(cert, read(t, s.files.Key))
		return err == nil && conn.ConnectionState().PeerCertificates[0].Equal(pair.Leaf)
	}
	wait := func(what string, cert []byte) {
		t.Helper()
		polltest.Until(t, what, func() bool { return serves(cert) })
	}
	wait("the first one", read(t, s.files.Cert))
	next := tlstest.New(t)
	s.trust(next)
	first := read(t, s.files.Cert)
	// refused waits until the files were read again and not taken, and the certificate from before is still served.
	refused := func(why string, before []byte) {
		t.Helper()
		polltest.Nil(t, "the log says "+why, func() error {
			conn, err := tls.Dial("tcp", strings.TrimPrefix(s.URL(), "https://"), &tls.Config{RootCAs: s.roots}) // a handshake reads them
			if err != nil {
				t.Fatal(err)
			}
			served := conn.ConnectionState().PeerCertificates[0]
			conn.Close()
			if block, _ := pem.Decode(before); !bytes.Equal(served.Raw, block.Bytes) {
				t.Fatal("another certificate is served:", why)
			}
			if !strings.Contains(log.String(), why) {
				return fmt.Errorf("it says %s", log.String())
			}
			return nil
		})
	}
	write(t, s.files.Cert, read(t, next.Cert)) // now the key does not match
	refused("is not that of the first certificate", first)
	s.notify(s.client(true), "with the old one")
	until(t, lines, "with the old one")
	write(t, s.files.Key, read(t, next.Key))
	wait("the next one", read(t, next.Cert))
	if err := os.Remove(s.files.Cert); err != nil {
		t.Fatal(err)
	}
	refused("hark cannot read the TLS certificate", read(t, next.Cert))
	s.notify(s.client(true), "without a file")
	until(t, lines, "without a file")
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func write(t *testing.T, path string, text []byte) {
	t.Helper()
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// A certificate that cannot be used is refused before anything starts, with a sentence that says which file is wrong.
func TestCertificateRefused(t *testing.T) {
	files, other, dir := tlstest.New(t), tlstest.New(t), t.TempDir()
	junk, damaged := filepath.Join(dir, "junk.pem"), filepath.Join(dir, "damaged.pem")
	write(t, junk, []byte("no PEM"))
	write(t, damaged, []byte("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"))
	missing := filepath.Join(dir, "missing.pem")
	for name, c := range map[string]struct{ cert, key, code, says string }{
		"no key":              {files.Cert, "", "tls_incomplete", "Options.TLSKey"},
		"no certificate":      {"", files.Key, "tls_incomplete", "Options.TLSCert"},
		"missing certificate": {missing, files.Key, "tls_unreadable", "certificate " + missing},
		"missing key":         {files.Cert, missing, "tls_unreadable", "key " + missing},
		"a folder":            {dir, files.Key, "tls_unreadable", "is a directory"},
		"another's key":       {files.Cert, other.Key, "tls_mismatch", other.Key},
		"junk":                {junk, files.Key, "tls_invalid", junk},
		"damaged":             {damaged, files.Key, "tls_invalid", "damaged"},
		"a key for both":      {files.Key, files.Key, "tls_invalid", "holds no certificate"},
		"a certificate twice": {files.Cert, files.Cert, "tls_invalid", "holds no key"},
	} {
		data := filepath.Join(dir, "data")
		srv, err := hark.New(t.Context(), hark.Options{
			Only: hark.Notifier, Data: data, Listen: "127.0.0.1:0", TLSCert: c.cert, TLSKey: c.key, Logger: slog.New(slog.DiscardHandler),
		})
		if err == nil {
			srv.Close()
		}
		var refused *hark.Error
		if !errors.As(err, &refused) || refused.Code != c.code || !strings.Contains(refused.Error(), c.says) || !strings.HasSuffix(refused.Error(), ".") {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Stat(data); err == nil {
			t.Errorf("%s: something was started", name)
		}
	}
}

// What net/http has to say, such as a failed handshake, is in the server's log and not in the process's.
func TestHandshakeErrorsAreInTheLog(t *testing.T) {
	log := new(logtest.Buffer)
	s := startTLS(t, func(o *hark.Options) { o.Logger = slog.New(slog.NewTextHandler(log, nil)) })
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.URL(), "https://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("this is not TLS\r\n")); err != nil {
		t.Fatal(err)
	}
	polltest.Nil(t, "the handshake error is logged", func() error {
		if !strings.Contains(log.String(), "TLS handshake error") {
			return fmt.Errorf("the log has\n%s", log)
		}
		return nil
	})
}
