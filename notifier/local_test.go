package notifier_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hark-jobs/hark/harktest"
)

// raw sends bytes on a new connection and returns the response.
func (s *site) raw(text string) (status int, code string, header http.Header) {
	s.t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.URL, "http://"))
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(conn, text); err != nil {
		s.t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		s.t.Fatalf("%q: %v", text, err)
	}
	defer res.Body.Close()
	if res.Close { // net/http removes the header
		res.Header.Set("Connection", "close")
	}
	var p problem
	if res.Header.Get("Content-Type") == "application/problem+json" {
		if err := json.NewDecoder(res.Body).Decode(&p); err != nil {
			s.t.Errorf("%q: %v", text, err)
		}
	}
	return res.StatusCode, p.Code, res.Header
}

// Without a key a web page gets no response through a name of its own that resolves to this machine.
func TestNoKeyRefusesForeignHosts(t *testing.T) {
	s := start(t)
	paths := []string{
		"GET /", "GET /hark.js", "GET /assets/app.js", "GET /openapi.json", "GET /v1/session", "POST /v1/session", "GET /v1/stream", "GET /v1/kinds",
		"GET /v1/jobs/01JD3QF4X5S7H8J9K0M1N2P3R4/file", "GET /nope", "PUT /v1/jobs", "OPTIONS /v1/jobs", "GET //livez", "GET /livez/", "GET /metrics",
	}
	for _, call := range paths {
		for _, host := range []string{"Host: evil.example\r\n", "Host: evil.example:4280\r\n", "Host:\r\n", "Host: 127.0.0.1.nip.io\r\n"} {
			if status, code, _ := s.raw(call + " HTTP/1.1\r\n" + host + "\r\n"); status != 421 || code != "host_not_local" {
				t.Errorf("%s with %q: %d %s", call, host, status, code)
			}
		}
	}
	for text, want := range map[string]string{
		"GET / HTTP/1.0\r\n\r\n": "421 host_not_local",
		"GET http://evil.example/ HTTP/1.1\r\nHost: localhost\r\n\r\n":                "421 host_not_local",
		"GET http://localhost/ HTTP/1.1\r\nHost: evil.example\r\n\r\n":                "403 proxied",
		"GET http://evil.example@localhost/ HTTP/1.1\r\nHost: localhost\r\n\r\n":      "403 proxied",
		"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n":             "400 ",
		"GET / HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-Host: evil.example\r\n\r\n": "403 proxied",
		"GET / HTTP/1.1\r\nHost: evil.example\r\nX-Forwarded-Host: localhost\r\n\r\n": "421 host_not_local",
		"GET / HTTP/1.1\r\nHost: localhost:4280\r\n\r\n":                              "200 ",
		"GET / HTTP/1.1\r\nHost: LOCALHOST.\r\n\r\n":                                  "200 ",
		"GET / HTTP/1.1\r\nHost: [::1]:4280\r\n\r\n":                                  "200 ",
		"GET / HTTP/1.1\r\nHost: app.localhost\r\n\r\n":                               "200 ",
		"GET /livez HTTP/1.1\r\nHost: evil.example\r\n\r\n":                           "200 ",
		"GET /readyz HTTP/1.1\r\nHost: evil.example\r\nVia: 1.1 x\r\n\r\n":            "200 ",
	} {
		status, code, _ := s.raw(text)
		if got := fmt.Sprintf("%d %s", status, code); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}

// Without a key hark refuses requests through a proxy, which would let anybody in under any name.
func TestNoKeyRefusesProxies(t *testing.T) {
	s := start(t)
	for _, header := range []string{
		"X-Forwarded-For: 10.0.0.1", "x-forwarded-proto: https", "X-Forwarded-Host: localhost", "X-Forwarded-Server: x", "X-Forwarded: x", "X-Forwarded-For:",
		"Forwarded: for=10.0.0.1", "forwarded: for=127.0.0.1", "Via: 1.1 proxy", "X-Real-IP: 127.0.0.1", "CF-Connecting-IP: 10.0.0.1", "True-Client-IP: 10.0.0.1",
		"Proxy-Connection: keep-alive", "CDN-Loop: x",
	} {
		for _, call := range []string{"GET /", "GET /v1/session", "GET /v1/stream", "GET /nope"} {
			if status, code, _ := s.raw(call + " HTTP/1.1\r\nHost: localhost\r\n" + header + "\r\n\r\n"); status != 403 || code != "proxied" {
				t.Errorf("%s with %q: %d %s", call, header, status, code)
			}
		}
	}
	s.call("GET", "/v1/session", "", "Via", "1.1 proxy").problem(403, "proxied")
}

// With a key hark accepts any Host and any proxy.
func TestKeyAnswersToAnyHost(t *testing.T) {
	s := start(t, harktest.Secret(strings.Repeat("k", 32)))
	for _, head := range []string{"Host: hark.example", "Host: hark.example\r\nX-Forwarded-For: 10.0.0.1\r\nVia: 1.1 proxy"} {
		if status, _, _ := s.raw("GET / HTTP/1.1\r\n" + head + "\r\n\r\n"); status != 200 {
			t.Errorf("%q: %d", head, status)
		}
	}
}
