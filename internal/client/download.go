package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// downloadTries is how often in a row a download may break without a byte gained.
const downloadTries = 5

// Download writes the file that a job left behind to w, and returns how many bytes that was. When the
// connection breaks it goes on where it was, as long as there is progress. Files never change, so the
// parts fit; should the server have another version after all, it is an error.
func (c *Client) Download(ctx context.Context, id string, w io.Writer) (int64, error) {
	d := download{client: c, path: jobPath(id) + "/file", w: w}
	for failures := 0; ; {
		before := d.done
		err := d.part(ctx)
		if err == nil {
			return d.done, nil
		}
		if d.done > before {
			failures = 0
		}
		failures++
		if ctx.Err() != nil {
			return d.done, ctx.Err()
		}
		// A first call that fails tells the user at once; only a download under way is worth waiting for.
		if !Temporary(err) || d.etag == "" && d.done == 0 || failures >= downloadTries {
			return d.done, err
		}
		if err := sleep(ctx, backoff(time.Second, failures)); err != nil {
			return d.done, err
		}
	}
}

type download struct {
	client *Client
	path   string
	w      io.Writer
	done   int64
	etag   string
}

// part writes as much as one response brings.
func (d *download) part(ctx context.Context) error {
	header := make(http.Header)
	if d.done > 0 {
		header.Set("Range", fmt.Sprintf("bytes=%d-", d.done))
	}
	res, err := d.client.send(ctx, call{method: http.MethodGet, path: d.path, header: header})
	if err != nil {
		return err
	}
	defer res.Body.Close()
	etag := res.Header.Get("ETag")
	if d.done > 0 && etag != d.etag {
		return errors.New("client: the file changed during the download")
	}
	d.etag = etag
	if err := d.skip(res); err != nil {
		return d.broken(err)
	}
	n, err := io.Copy(d.w, &source{r: res.Body})
	d.done += n
	var read *readError
	if errors.As(err, &read) {
		return d.broken(read.err)
	}
	return err // nil, or what w said: no second try mends that
}

// skip leaves out what w has already, if the response does not begin behind it.
func (d *download) skip(res *http.Response) error {
	if d.done == 0 {
		return nil
	}
	if res.StatusCode == http.StatusPartialContent {
		var from int64
		if _, err := fmt.Sscanf(res.Header.Get("Content-Range"), "bytes %d-", &from); err != nil || from != d.done {
			return fmt.Errorf("the server sent %q", res.Header.Get("Content-Range"))
		}
		return nil
	}
	_, err := io.CopyN(io.Discard, res.Body, d.done)
	return err
}

func (d *download) broken(err error) error {
	return &UnreachableError{URL: d.client.base.String(), Err: fmt.Errorf("the download broke off: %w", err)}
}

// source marks errors of reading, to tell them from those of writing.
type source struct{ r io.Reader }

type readError struct{ err error }

func (e *readError) Error() string { return e.err.Error() }

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && err != io.EOF {
		err = &readError{err}
	}
	return n, err
}
