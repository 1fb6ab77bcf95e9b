package cluster_test

import (
	"errors"
	"net"
	"net/http"
	"sync"
	"time"
)

// balancer sends each request to one of the notifiers in turn, as a proxy does that has no health checks of its own (nginx
// with its defaults): a notifier that refuses connections is left out for a second, and the request goes to the next one; so
// does a request for a stream that gets 503. It is an [http.RoundTripper].
type balancer struct {
	hosts     []string
	transport *http.Transport

	mu   sync.Mutex
	next int
	out  []time.Time // until when each is left out
}

func newBalancer(urls []string) *balancer {
	b := &balancer{out: make([]time.Time, len(urls)), transport: &http.Transport{
		MaxIdleConnsPerHost: 64, DialContext: (&net.Dialer{Timeout: time.Second}).DialContext,
	}}
	for _, url := range urls {
		b.hosts = append(b.hosts, hostOf(url))
	}
	return b
}

// pick returns the next notifier that is not left out and not tried, or any that is not tried.
func (b *balancer) pick(tried []bool) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	any := -1
	for range b.hosts {
		i := b.next % len(b.hosts)
		b.next++
		if tried[i] {
			continue
		}
		any = i
		if time.Now().After(b.out[i]) {
			return i
		}
	}
	return any
}

func (b *balancer) leaveOut(i int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.out[i] = time.Now().Add(time.Second)
}

// RoundTrip implements [http.RoundTripper].
func (b *balancer) RoundTrip(req *http.Request) (*http.Response, error) {
	tried := make([]bool, len(b.hosts))
	for n := 1; ; n++ {
		i := b.pick(tried)
		tried[i] = true
		to := req.Clone(req.Context())
		to.URL.Host = b.hosts[i]
		if req.GetBody != nil {
			body, err := req.GetBody()
			if err != nil {
				return nil, err
			}
			to.Body = body
		}
		res, err := b.transport.RoundTrip(to)
		var op *net.OpError
		refused := errors.As(err, &op) && op.Op == "dial"
		if refused {
			b.leaveOut(i)
		}
		unavailable := err == nil && res.StatusCode == http.StatusServiceUnavailable && req.Method == http.MethodGet
		if n == len(b.hosts) || !refused && !unavailable {
			return res, err
		}
		if unavailable {
			res.Body.Close()
		}
	}
}
