// Package client speaks hark's HTTP API (docs/api.md). The commands use it, and so do the tests of the
// whole system.
//
// Errors are a [*Problem] if the server refused, an [*UnreachableError] if it did not answer, and the
// context's error if that ended first. [Temporary] tells those that a second try may mend.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/hark-jobs/hark/jobs"
)

// maxBody limits what is read of a JSON answer.
const maxBody = 16 << 20

// Options say where the server is and who is asking.
type Options struct {
	// URL is where the server is, like http://localhost:4280, with a path if it lives below one.
	URL string
	// Token is sent as the bearer's with every call. Without it, and without TokenFunc, none is.
	Token string
	// TokenFunc, if set, is asked before each call instead. It must be safe for concurrent use.
	TokenFunc func(context.Context) (string, error)
	// HTTPClient does the calls. The default is one of its own, without a timeout: contexts limit calls.
	HTTPClient *http.Client
}

// Client calls one hark server. It is safe for concurrent use.
type Client struct {
	base  *url.URL
	token func(context.Context) (string, error)
	http  *http.Client
}

// New returns a Client. It calls nobody yet.
func New(o Options) (*Client, error) {
	base, err := url.Parse(o.URL)
	if err != nil || base.Scheme != "http" && base.Scheme != "https" || base.Host == "" {
		return nil, fmt.Errorf("client: %.200q is not a URL like http://localhost:4280", o.URL)
	}
	base.Path = strings.TrimRight(base.Path, "/")
	base.RawQuery, base.Fragment = "", ""
	c := &Client{base: base, token: o.TokenFunc, http: o.HTTPClient}
	if c.token == nil {
		c.token = func(context.Context) (string, error) { return o.Token, nil }
	}
	if c.http == nil {
		c.http = &http.Client{}
	}
	return c, nil
}

// Kinds returns what can be asked for.
func (c *Client) Kinds(ctx context.Context) ([]jobs.Kind, error) {
	var out struct {
		Kinds []jobs.Kind `json:"kinds"`
	}
	err := c.call(ctx, call{method: http.MethodGet, path: "/v1/kinds"}, &out)
	return out.Kinds, err
}

// call is one call of the API.
type call struct {
	method string
	path   string
	query  url.Values
	header http.Header
	body   any // marshalled to JSON, if not nil
}

// call does one call and decodes the answer into out, if that is not nil.
func (c *Client) call(ctx context.Context, in call, out any) error {
	res, err := c.send(ctx, in)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode == http.StatusNoContent || out == nil {
		return nil
	}
	if err := json.NewDecoder(io.LimitReader(res.Body, maxBody)).Decode(out); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
			return &UnreachableError{URL: c.base.String(), Err: err}
		}
		return fmt.Errorf("client: %s %s: the answer is not what hark answers: %w", in.method, in.path, err)
	}
	return nil
}

// send returns the response to a call if its status is 2xx, with the body to be closed.
func (c *Client) send(ctx context.Context, in call) (*http.Response, error) {
	req, err := c.request(ctx, in)
	if err != nil {
		return nil, err
	}
	res, err := c.http.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, &UnreachableError{URL: c.base.String(), Err: err}
	}
	if res.StatusCode/100 != 2 {
		defer res.Body.Close()
		return nil, readProblem(res)
	}
	return res, nil
}

func (c *Client) request(ctx context.Context, in call) (*http.Request, error) {
	var body io.Reader
	if in.body != nil {
		data, err := json.Marshal(in.body)
		if err != nil {
			return nil, fmt.Errorf("client: %s %s: %w", in.method, in.path, err)
		}
		body = bytes.NewReader(data)
	}
	target := *c.base
	target.Path += in.path
	target.RawQuery = in.query.Encode()
	req, err := http.NewRequestWithContext(ctx, in.method, target.String(), body)
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	for name, values := range in.header {
		req.Header[name] = values
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	token, err := c.token(ctx)
	if err != nil {
		return nil, fmt.Errorf("client: get a token: %w", err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	return req, nil
}
