package auth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// Periods and limits of reading a JWKS.
const (
	filePeriod     = 2 * time.Second // the interval of checks of a file
	urlPeriod      = 5 * time.Minute // the interval of requests to a URL
	urlTimeout     = 10 * time.Second
	urlMinInterval = 5 * time.Second // the shortest time between two requests for unknown keys
	firstRetry     = time.Second     // the delay after a failed request, doubled up to lastRetry
	lastRetry      = time.Minute
	keyWait        = 3 * time.Second // how long the verification of a token waits for a fetch
	maxJWKSBytes   = 1 << 20         // the largest size of a JWKS or a discovery document
	maxRedirects   = 3
)

// errUnchanged is returned by load if the JWKS has not changed.
var errUnchanged = errors.New("unchanged")

// keySource is a JWKS that is fetched periodically.
//
// One goroutine, [keySource.run], fetches. A token with an unknown key makes it fetch, unless it has just done so, and waits
// for the end of that fetch.
type keySource struct {
	name        string
	load        func(context.Context) (keySet, error)
	close       func()
	period      time.Duration
	minInterval time.Duration // between fetches for unknown keys
	retry       time.Duration // the first delay after a failure
	log         *slog.Logger

	current atomic.Pointer[keySet] // nil before the first successful fetch
	refresh chan struct{}          // asks run for a fetch

	mu        sync.Mutex
	fetching  bool
	lastFetch time.Time     // the start of the last fetch
	fetchDone chan struct{} // closed at the end of the next fetch
	lastErr   error         // of the last fetch
}

// newKeySource returns the source of a file or URL, or if from is empty, of the issuer's discovery document.
func newKeySource(from, issuer string, log *slog.Logger) (*keySource, error) {
	if log == nil {
		log = slog.Default()
	}
	s := &keySource{
		name: from, log: log, close: func() {},
		refresh: make(chan struct{}, 1), fetchDone: make(chan struct{}),
	}
	switch {
	case from == "":
		return s, s.fromIssuer(issuer)
	case IsURL(from):
		return s, s.fromURL(from)
	}
	return s, s.fromFile(from)
}

// fromURL makes run fetch a URL.
func (s *keySource) fromURL(from string) error {
	u, err := url.Parse(from)
	if err != nil || u.Host == "" {
		return fmt.Errorf("the JWKS %.200q is not a URL", from)
	}
	if err := safeURL(u, true); err != nil {
		return fmt.Errorf("the JWKS %.200q: %w", u.Redacted(), err)
	}
	client := s.newClient(u)
	s.load = func(ctx context.Context) (keySet, error) { return fetchKeys(ctx, client, from) }
	return nil
}

// newClient sets the periods for a URL, and returns the HTTP client for it.
func (s *keySource) newClient(u *url.URL) *http.Client {
	s.name = u.Redacted()
	transport := http.DefaultTransport.(*http.Transport).Clone()
	s.close = transport.CloseIdleConnections
	s.period, s.minInterval, s.retry = urlPeriod, urlMinInterval, firstRetry
	return &http.Client{Timeout: urlTimeout, Transport: transport, CheckRedirect: func(to *http.Request, via []*http.Request) error {
		if len(via) > maxRedirects {
			return errors.New("it redirects too often")
		}
		return safeURL(to.URL, isLoopback(u))
	}}
}

func fetchKeys(ctx context.Context, client *http.Client, from string) (keySet, error) {
	data, err := fetch(ctx, client, from, "application/jwk-set+json, application/json")
	if err != nil {
		return nil, err
	}
	return parseKeys(data)
}

// fetch returns the body of a URL, of up to maxJWKSBytes.
func fetch(ctx context.Context, client *http.Client, from, accept string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", accept)
	res, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the response has the status %s", res.Status)
	}
	return readAll(res.Body)
}

// fromFile makes run read a file, and reads it first: an error at the start is an error in the configuration.
func (s *keySource) fromFile(path string) error {
	s.period, s.minInterval, s.retry = filePeriod, filePeriod/2, filePeriod
	var last os.FileInfo
	s.load = func(context.Context) (keySet, error) {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			return nil, err
		}
		if last != nil && os.SameFile(last, info) && last.ModTime().Equal(info.ModTime()) && last.Size() == info.Size() {
			return nil, errUnchanged
		}
		data, err := readAll(f)
		if err != nil {
			return nil, err
		}
		set, err := parseKeys(data)
		if err == nil {
			last = info
		}
		return set, err
	}
	s.fetch(context.Background())
	switch set := s.current.Load(); {
	case s.lastErr != nil:
		return fmt.Errorf("read the JWKS %s: %w", path, s.lastErr)
	case len(*set) == 0:
		return fmt.Errorf("the JWKS %s has no key for %s", path, strings.Join(jwksMethods, ", "))
	}
	return nil
}

func readAll(r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxJWKSBytes+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxJWKSBytes {
		return nil, errors.New("it is larger than 1 MiB")
	}
	return data, nil
}

// run fetches periodically until ctx ends.
func (s *keySource) run(ctx context.Context) {
	defer s.close()
	delay := s.retry
	for ctx.Err() == nil {
		before := s.lastError()
		err := s.fetch(ctx)
		next := s.period
		if err != nil {
			next = min(delay, s.period)
			delay = min(2*delay, lastRetry)
		} else {
			delay = s.retry
		}
		if err != nil && ctx.Err() == nil && (before == nil || before.Error() != err.Error()) {
			s.log.Warn("JWKS not fetched; retrying", "jwks", s.name, "error", err, "known_keys", s.known())
		}
		s.pause(ctx, next)
	}
}

// pause blocks for d, or until a token with an unknown key needs a fetch and the last one is old enough.
func (s *keySource) pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			return
		case <-s.refresh:
			s.mu.Lock()
			due := time.Since(s.lastFetch) >= s.minInterval
			s.mu.Unlock()
			if due {
				return
			}
		}
	}
}

// fetch fetches the keys once. After a failure the known keys stay. An empty set replaces them, since an issuer revokes its
// keys that way.
func (s *keySource) fetch(ctx context.Context) error {
	s.mu.Lock()
	s.fetching, s.lastFetch = true, time.Now()
	s.mu.Unlock()

	set, err := s.load(ctx)
	switch {
	case errors.Is(err, errUnchanged):
		err = nil
	case err == nil:
		s.current.Store(&set)
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	s.fetching, s.lastErr = false, err
	close(s.fetchDone)
	s.fetchDone = make(chan struct{})
	return err
}

func (s *keySource) lastError() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lastErr
}

// known returns the number of known keys.
func (s *keySource) known() int {
	if set := s.current.Load(); set != nil {
		return len(*set)
	}
	return 0
}

// find returns the keys that may have signed a token with this method and key id. It may wait for a fetch, for up to
// keyWait.
func (s *keySource) find(ctx context.Context, alg, kid string) (jwt.VerificationKeySet, error) {
	keys := s.lookup(alg, kid)
	if len(keys) == 0 {
		s.waitFetch(ctx)
		keys = s.lookup(alg, kid)
	}
	if s.current.Load() == nil {
		return jwt.VerificationKeySet{}, &Error{
			Code: CodeKeysUnavailable, Detail: "The keys for verifying tokens cannot be fetched right now; try again in a few seconds.",
			cause: s.lastError(),
		}
	}
	if len(keys) == 0 {
		return jwt.VerificationKeySet{}, invalidToken("The token is signed with an unknown key.")
	}
	return jwt.VerificationKeySet{Keys: keys}, nil
}

func (s *keySource) lookup(alg, kid string) []jwt.VerificationKey {
	if set := s.current.Load(); set != nil {
		return set.find(alg, kid)
	}
	return nil
}

// waitFetch waits for the running fetch, or for one that it starts. It returns without waiting if the last fetch is too
// recent.
func (s *keySource) waitFetch(ctx context.Context) {
	s.mu.Lock()
	done, wait := s.fetchDone, s.fetching || time.Since(s.lastFetch) >= s.minInterval
	s.mu.Unlock()
	if !wait {
		return
	}
	select {
	case s.refresh <- struct{}{}:
	default:
	}
	ctx, cancel := context.WithTimeout(ctx, keyWait)
	defer cancel()
	select {
	case <-done:
	case <-ctx.Done():
	}
}
