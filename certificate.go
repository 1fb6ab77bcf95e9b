package hark

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/hark-jobs/hark/internal/trouble"
	"github.com/prometheus/client_golang/prometheus"
)

// certificate is the one of Options.TLSCert and Options.TLSKey. Its methods are safe for concurrent use.
type certificate struct {
	certFile, keyFile string
	trouble           *trouble.Trouble

	mu        sync.Mutex
	looked    time.Time // time of the last read of the files
	cert, key []byte    // as they were when now was made of them
	now       *tls.Certificate
}

// certificateAge is how often the files are read.
const certificateAge = time.Second

// openCertificate reads the files, if there are any.
func (s *Server) openCertificate(context.Context) error {
	if s.options.TLSCert == "" {
		return nil
	}
	c := &certificate{certFile: s.options.TLSCert, keyFile: s.options.TLSKey, trouble: trouble.New(s.log.With("part", "tls"),
		"certificate not read again; the one from before is used", "certificate read again", nil)}
	if err := c.readLocked(); err != nil {
		return err
	}
	if end := c.now.Leaf.NotAfter; time.Now().After(end) {
		s.log.Warn("the TLS certificate has expired; browsers refuse it", "at", end)
	}
	s.meter(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "hark_tls_certificate_expires_seconds", Help: "When the TLS certificate expires, Unix time.",
	}, func() float64 {
		cert, _ := c.get(nil)
		return float64(cert.Leaf.NotAfter.Unix())
	}))
	s.certificate = c
	return nil
}

// get returns the certificate for a handshake. It reads changed files. If they are invalid, for instance half written, it
// keeps the previous certificate.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.looked) >= certificateAge {
		if err := c.readLocked(); err != nil {
			c.trouble.Begin(err)
		} else {
			c.trouble.Over()
		}
	}
	return c.now, nil
}

// readLocked reads the files, and loads them if they have changed. The lock must be held, except before the first use.
func (c *certificate) readLocked() error {
	c.looked = time.Now()
	cert, err := os.ReadFile(c.certFile)
	if err != nil {
		return unreadable("certificate", c.certFile, err)
	}
	key, err := os.ReadFile(c.keyFile)
	if err != nil {
		return unreadable("key", c.keyFile, err)
	}
	if c.now != nil && bytes.Equal(cert, c.cert) && bytes.Equal(key, c.key) {
		return nil
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return c.unusable(cert, err)
	}
	c.cert, c.key, c.now = cert, key, &pair
	return nil
}

func unreadable(what, path string, err error) error {
	var why *fs.PathError
	if errors.As(err, &why) {
		err = why.Err
	}
	return &Error{Code: "tls_unreadable", Message: fmt.Sprintf("hark cannot read the TLS %s %s: %v.", what, path, err)}
}

// unusable returns a sentence about the invalid file.
func (c *certificate) unusable(cert []byte, err error) error {
	code, text := "tls_invalid", ""
	block := firstCertificate(cert)
	switch {
	case block == nil:
		text = fmt.Sprintf("The TLS certificate %s holds no certificate in PEM.", c.certFile)
	case !parses(block):
		text = fmt.Sprintf("The first certificate in %s is damaged.", c.certFile)
	case strings.Contains(err.Error(), "does not match"):
		code, text = "tls_mismatch", fmt.Sprintf("The TLS key %s is not that of the first certificate in %s.", c.keyFile, c.certFile)
	default:
		text = fmt.Sprintf("The TLS key %s holds no key in PEM that hark can use without a passphrase.", c.keyFile)
	}
	return &Error{Code: code, Message: text}
}

// firstCertificate returns the first one in PEM, nil if there is none.
func firstCertificate(text []byte) []byte {
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" {
			return block.Bytes
		}
	}
	return nil
}

func parses(der []byte) bool {
	_, err := x509.ParseCertificate(der)
	return err == nil
}

const (
	// http2Streams is how many requests a client may have on one connection, streams among them: more than a user may have
	// streams. RFC 9113, section 6.5.2, advises 100 at least.
	http2Streams = 100
	// http2Ping is how long a connection may be silent before its client is asked whether it is there, and http2Pong how long
	// the answer may take.
	http2Ping, http2Pong = 30 * time.Second, 15 * time.Second
)

// secure enables TLS, and HTTP/2 with clients that support it.
func secure(s *http.Server, c *certificate) {
	s.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: c.get}
	s.HTTP2 = &http.HTTP2Config{MaxConcurrentStreams: http2Streams, SendPingTimeout: http2Ping, PingTimeout: http2Pong}
}
