package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// HealthCmd is hark health. Containers without a shell use it as their health check.
type HealthCmd struct {
	URL string `arg:"" optional:"" default:"http://localhost:4280/readyz" env:"-" help:"The health check: /readyz of a notifier on port 4280, with https:// if it has --tls-cert, or of a worker on 4281. On this machine the certificate is not verified."`
}

// healthTimeout bounds the whole call.
const healthTimeout = 5 * time.Second

// Run prints the response. It fails unless the status is 2xx.
func (c *HealthCmd) Run(ctx context.Context, s Streams) error {
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.URL, nil)
	if err != nil || req.URL.Scheme != "http" && req.URL.Scheme != "https" {
		return badUsage("%s is not a URL like http://localhost:4280/readyz", c.URL)
	}
	transport := &http.Transport{DisableKeepAlives: true}
	if host := req.URL.Hostname(); host == "localhost" || net.ParseIP(host).IsLoopback() {
		// The certificate of --tls-cert is for the name that browsers use, and between is nothing but this machine.
		transport.TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
	}
	res, err := transport.RoundTrip(req)
	if err != nil {
		return fmt.Errorf("%s does not answer: %w", c.URL, err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, 4<<10))
	if err != nil {
		return fmt.Errorf("%s: %w", c.URL, err)
	}
	text := printable(strings.TrimSpace(string(body)))
	if res.StatusCode < 200 || res.StatusCode > 299 {
		return fmt.Errorf("%s answers %s: %s", c.URL, res.Status, text)
	}
	fmt.Fprintln(s.Out, text)
	return nil
}
