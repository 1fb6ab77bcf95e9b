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

// How a JWKS is kept fresh.
const (
	filePeriod   = 2 * time.Second // how often a file is looked at
	urlPeriod    = 5 * time.Minute // how often a URL is asked
	urlTimeout   = 10 * time.Second
	urlSpacing   = 5 * time.Second // the least time between two requests that unknown keys caused
	firstRetry   = time.Second     // the delay after a URL did not answer, doubled up to lastRetry
	lastRetry    = time.Minute
	keyWait      = 3 * time.Second // how long a token waits for a fetch under way
	maxJWKSBytes = 1 << 20         // and of a discovery document
	maxRedirects = 3
)

// errUnchanged is what load answers when there is nothing new to read.
var errUnchanged = errors.New("unchanged")

// keySource is a JWKS that is read from somewhere again and again.
//
// One goroutine, [keySource.run], reads. A token with an unknown key kicks it, unless it has just read,
// and waits for its next read to end.
type keySource struct {
	name    string
	load    func(context.Context) (keySet, error)
	close   func()
	period  time.Duration
	spacing time.Duration
	retry   time.Duration // first delay after a failure
	log     *slog.Logger

	current atomic.Pointer[keySet] // nil until a first read succeeded
	kick    chan struct{}

	mu      sync.Mutex
	reading bool
	began   time.Time     // when the last read began
	ended   chan struct{} // closed when the next read ends
	lastErr error         // of the last read
}

// newKeySource reads a JWKS from a file or URL, or if that is empty, from where the issuer says.
func newKeySource(from, issuer string, log *slog.Logger) (*keySource, error) {
	if log == nil {
		log = slog.Default()
	}
	s := &keySource{
		name: from, log: log, close: func() {},
		kick: make(chan struct{}, 1), ended: make(chan struct{}),
	}
	switch {
	case from == "":
		return s, s.fromIssuer(issuer)
	case IsURL(from):
		return s, s.fromURL(from)
	}
	return s, s.fromFile(from)
}

// fromURL has the URL asked, by run.
func (s *keySource) fromURL(from string) error {
	u, err := url.Parse(from)
	if err != nil || u.Host == "" {
		return fmt.Errorf("the JWKS %.200q is not a URL", from)
	}
	if err := safeURL(u, true); err != nil {
		return fmt.Errorf("the JWKS %.200q: %w", u.Redacted(), err)
	}
	client := s.askURL(u)
	s.load = func(ctx context.Context) (keySet, error) { return fetchKeys(ctx, client, from) }
	return nil
}

// askURL says how a URL is asked, and returns the client to do it with.
func (s *keySource) askURL(u *url.URL) *http.Client {
	s.name = u.Redacted()
	transport := http.DefaultTransport.(*http.Transport).Clone()
	s.close = transport.CloseIdleConnections
	s.period, s.spacing, s.retry = urlPeriod, urlSpacing, firstRetry
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

// fetch reads a small document.
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
		return nil, fmt.Errorf("it answered %s", res.Status)
	}
	return readAll(res.Body)
}

// fromFile reads the file at once: what is wrong with it now is a mistake in the configuration.
func (s *keySource) fromFile(path string) error {
	s.period, s.spacing, s.retry = filePeriod, filePeriod/2, filePeriod
	var seen os.FileInfo
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
		if seen != nil && os.SameFile(seen, info) && seen.ModTime().Equal(info.ModTime()) && seen.Size() == info.Size() {
			return nil, errUnchanged
		}
		data, err := readAll(f)
		if err != nil {
			return nil, err
		}
		set, err := parseKeys(data)
		if err == nil {
			seen = info
		}
		return set, err
	}
	s.read(context.Background())
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

// run reads until ctx ends.
func (s *keySource) run(ctx context.Context) {
	defer s.close()
	delay := s.retry
	for ctx.Err() == nil {
		before := s.lastError()
		err := s.read(ctx)
		next := s.period
		if err != nil {
			next = min(delay, s.period)
			delay = min(2*delay, lastRetry)
		} else {
			delay = s.retry
		}
		if err != nil && ctx.Err() == nil && (before == nil || before.Error() != err.Error()) {
			s.log.Warn("the JWKS cannot be read", "jwks", s.name, "error", err, "known_keys", s.known())
		}
		s.pause(ctx, next)
	}
}

// pause returns after d, or when a token with an unknown key asks for a read and none was just made.
func (s *keySource) pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			return
		case <-s.kick:
			s.mu.Lock()
			due := time.Since(s.began) >= s.spacing
			s.mu.Unlock()
			if due {
				return
			}
		}
	}
}

// read reads once. Keys known so far outlive a failure; an empty set does replace them, for that is how
// keys are revoked.
func (s *keySource) read(ctx context.Context) error {
	s.mu.Lock()
	s.reading, s.began = true, time.Now()
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
	s.reading, s.lastErr = false, err
	close(s.ended)
	s.ended = make(chan struct{})
	return err
}

func (s *keySource) lastError() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lastErr
}

func (s *keySource) known() int {
	if set := s.current.Load(); set != nil {
		return len(*set)
	}
	return 0
}

// find returns the keys that may have signed a token with this method and key id.
func (s *keySource) find(ctx context.Context, alg, kid string) (jwt.VerificationKeySet, error) {
	keys := s.lookup(alg, kid)
	if len(keys) == 0 {
		s.await(ctx)
		keys = s.lookup(alg, kid)
	}
	if s.current.Load() == nil {
		return jwt.VerificationKeySet{}, &Error{
			Code: CodeKeysUnavailable, Detail: "The keys that tokens are verified with cannot be fetched at the moment.",
			cause: s.lastError(),
		}
	}
	if len(keys) == 0 {
		return jwt.VerificationKeySet{}, invalidToken("The token is signed with a key that is not known here.")
	}
	return jwt.VerificationKeySet{Keys: keys}, nil
}

func (s *keySource) lookup(alg, kid string) []jwt.VerificationKey {
	if set := s.current.Load(); set != nil {
		return set.find(alg, kid)
	}
	return nil
}

// await waits for a read under way, or one that may be asked for now.
func (s *keySource) await(ctx context.Context) {
	s.mu.Lock()
	ended, soon := s.ended, s.reading || time.Since(s.began) >= s.spacing
	s.mu.Unlock()
	if !soon {
		return
	}
	select {
	case s.kick <- struct{}{}:
	default:
	}
	ctx, cancel := context.WithTimeout(ctx, keyWait)
	defer cancel()
	select {
	case <-ended:
	case <-ctx.Done():
	}
}
