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

// maxBody limits the size of a JSON response, in bytes.
const maxBody = 16 << 20

// Options of a client. URL is required.
type Options struct {
	// URL is the address of the server, like http://localhost:4280, with a path if a proxy serves hark below one.
	URL string
	// Token is sent with every call, as a bearer token. Defaults to none.
	Token string
	// TokenFunc, if set, is called before each call in place of Token, with the context of that call. It must be safe for
	// concurrent use. Its error fails the call.
	TokenFunc func(context.Context) (string, error)
	// HTTPClient makes the calls. Event streams ignore its Timeout. Defaults to a client of its own without a timeout.
	HTTPClient *http.Client
}

// Client calls one hark server. Its methods are safe for concurrent use. It has nothing to close.
type Client struct {
	base  *url.URL
	token func(context.Context) (string, error)
	http  *http.Client
}

// New returns a client. It makes no call yet. It returns an error if the URL is not an absolute one of http or https.
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

// Token returns the token that calls are made with, or "" without one. It blocks as long as [Options.TokenFunc] does.
func (c *Client) Token(ctx context.Context) (string, error) { return c.token(ctx) }

// Kinds returns the kinds that the user of the token may enqueue.
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

// call makes a call and decodes the response into out, if out is not nil.
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
		return fmt.Errorf("client: %s %s: the response is not from hark: %w", in.method, in.path, err)
	}
	return nil
}

// send returns the response to a call if its status is 2xx. The caller must close its body.
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
