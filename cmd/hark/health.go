package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// HealthCmd is hark health. Containers without a shell use it as their health check.
type HealthCmd struct {
	URL string `arg:"" optional:"" default:"http://localhost:4280/readyz" env:"-" help:"The health check to ask: /readyz of a notifier on port 4280, or of a worker on 4281."`
}

// healthTimeout bounds the whole call.
const healthTimeout = 5 * time.Second

// Run prints the answer. It fails unless that is one of success.
func (c *HealthCmd) Run(ctx context.Context, s Streams) error {
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.URL, nil)
	if err != nil || req.URL.Scheme != "http" && req.URL.Scheme != "https" {
		return badUsage("%s is not a URL like http://localhost:4280/readyz", c.URL)
	}
	transport := &http.Transport{DisableKeepAlives: true}
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
