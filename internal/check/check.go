// Package check checks the network and the proxies between a client and hark: whether events arrive without delay.
package check

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// Level is the severity of a [Finding].
type Level int

// The levels.
const (
	OK   Level = iota // as it should be
	Note              // worth knowing
	Bad               // users are affected
)

// Finding is the result of a check.
type Finding struct {
	Level Level
	Code  string // stable, for programs
	Text  string // one sentence
	Fix   string // what to do about it; empty if nothing
}

// Options of a check. URL and Token are required.
type Options struct {
	URL   string // the public URL of hark, without a trailing slash
	Token string
	// Watch is how long one stream is watched. Defaults to 70 s, which is longer than the default timeouts of proxies.
	Watch time.Duration
	// First is the timeout of an event that should come without delay. Defaults to 5 s.
	First time.Duration
	// Transport makes the requests. Defaults to one that uses HTTP/2 if the server supports it.
	Transport *http.Transport
}

// checker is a run of the checks.
type checker struct {
	Options
	http1 *http.Transport // HTTP/1.1 with a connection per request
	yield func(Finding)
}

// Run runs all checks in order, and calls yield for each finding. It blocks for a little longer than [Options.Watch], or until ctx
// ends, and returns the error of ctx.
func Run(ctx context.Context, o Options, yield func(Finding)) error {
	if o.Watch == 0 {
		o.Watch = 70 * time.Second
	}
	if o.First == 0 {
		o.First = 5 * time.Second
	}
	if o.Transport == nil {
		o.Transport = &http.Transport{Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true}
	}
	c := &checker{Options: o, yield: yield, http1: o.Transport.Clone()}
	c.http1.DisableKeepAlives, c.http1.ForceAttemptHTTP2, c.http1.TLSNextProto = true, false, nil
	c.http1.Protocols = new(http.Protocols)
	c.http1.Protocols.SetHTTP1(true)
	if c.http1.TLSClientConfig != nil { // the original offers HTTP/2 in it
		c.http1.TLSClientConfig.NextProtos = nil
	}
	defer c.Transport.CloseIdleConnections()
	defer c.http1.CloseIdleConnections()
	for _, look := range []func(context.Context) bool{c.session, c.headers, c.poll, c.stream, c.many} {
		if !look(ctx) {
			break
		}
	}
	return ctx.Err()
}

func (c *checker) say(level Level, code, fix, format string, args ...any) {
	c.yield(Finding{level, code, fmt.Sprintf(format, args...), fix})
}

// get requests a path. The caller must close the body.
func (c *checker) get(ctx context.Context, transport http.RoundTripper, path string, header ...string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.URL+path, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+c.Token)
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	return transport.RoundTrip(req)
}

// problem is an error response of hark.
type problem struct{ Code, Detail string }

// ask requests a path and decodes its JSON, with the timeout of a call.
func (c *checker) ask(ctx context.Context, path string, out any) (res *http.Response, refused problem, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*c.First)
	defer cancel()
	if res, err = c.get(ctx, c.Transport, path); err != nil {
		return nil, refused, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, 4<<20))
	if err != nil {
		return res, refused, err
	}
	if res.StatusCode != http.StatusOK {
		if json.Unmarshal(body, &refused) != nil || refused.Code == "" {
			return res, refused, errForeign
		}
		return res, refused, nil
	}
	if json.Unmarshal(body, out) != nil {
		return res, refused, errForeign
	}
	return res, refused, nil
}

var errForeign = errors.New("the response is not from hark")

// session checks whether hark can be reached, and whether it gets the token.
func (c *checker) session(ctx context.Context) bool {
	var who struct{ User string }
	res, refused, err := c.ask(ctx, "/v1/session", &who)
	switch {
	case errors.Is(err, errForeign):
		c.say(Bad, "not_hark", "Use the URL above /v1 of hark; a proxy must pass on all paths below it unchanged.",
			"The server at %s, which responds with %s, is not hark.", c.URL, res.Status)
		return false
	case err != nil:
		c.say(Bad, "unreachable", "Check the address, and that the proxy and hark are running.", "%s does not respond: %v.", c.URL, err)
		return false
	case refused.Code == "token_missing":
		c.say(Bad, "strips_authorization", "Make the proxy pass on the header Authorization, or sign in with the cookie.",
			"The header Authorization does not reach hark.")
		return false
	case refused.Code == "proxied" || refused.Code == "host_not_local":
		c.say(Bad, refused.Code, "Configure a key: --jwt-secret-file, --jwks or --jwt-issuer.", "hark has no key, and refuses requests through a proxy.")
		return false
	case refused.Code != "":
		c.say(Bad, refused.Code, "", "hark refuses the token: %s", refused.Detail)
		return false
	}
	c.say(OK, "reached", "", "hark responds over %s, to %s.", res.Proto, who.User)
	if res.ProtoMajor < 2 {
		c.say(Note, "http1", "Use TLS with HTTP/2 towards browsers: in the proxy (nginx: listen 443 ssl http2), or with --tls-cert and --tls-key.",
			"Over HTTP/1.1 a browser has six connections to a host; pages of hark share one stream, but other programs' streams take one each.")
	}
	if res.Header.Get("X-Request-Id") == "" || !strings.Contains(res.Header.Get("Cache-Control"), "no-store") {
		c.say(Bad, "strips_headers", "Make the proxy pass on hark's response headers: without Cache-Control a response may be cached and shown to other users.",
			"A proxy strips headers of hark's responses.")
	}
	return true
}

// poll checks long polling.
func (c *checker) poll(ctx context.Context) bool {
	var answer struct{ Events []struct{ Event string } }
	_, refused, err := c.ask(ctx, "/v1/events?wait=0", &answer)
	switch {
	case err != nil:
		c.say(Bad, "poll_fails", "Make the proxy pass on GET /v1/events, with its query.", "Long polling does not work: %v.", err)
	case refused.Code != "":
		c.say(Bad, refused.Code, "", "hark refuses a poll: %s", refused.Detail)
	case len(answer.Events) == 0 || answer.Events[0].Event != "hello":
		c.say(Bad, "poll_fails", "Make the proxy pass on GET /v1/events, with its query.", "The response to a poll has no hello.")
	default:
		c.say(OK, "poll", "", "Long polling works.")
	}
	return true
}
