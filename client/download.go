package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// downloadTries is the number of consecutive failures without a byte after which a download gives up.
const downloadTries = 5

// Download writes the file of a job to w, blocks until it is complete, and returns the number of bytes. When the connection breaks
// it reconnects and resumes, and gives up after five consecutive failures without a byte. A file never changes; if the server has
// another version nevertheless, that is an error.
//
// Errors: [jobs.ErrNotFound], [jobs.ErrFileGone], that of w, or any other of a call.
func (c *Client) Download(ctx context.Context, id string, w io.Writer) (int64, error) {
	d := download{client: c, path: jobPath(id) + "/file", w: w}
	for failures := 0; ; {
		before := d.done
		err := d.writePart(ctx)
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
		// If the first call fails, do not retry; only retry a download that has begun.
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

// writePart writes the body of one response.
func (d *download) writePart(ctx context.Context) error {
	// A proxy must not compress the file, since the ETag would differ from that of later parts.
	header := http.Header{"Accept-Encoding": {"identity"}}
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
	return err // nil, or an error of w, for which a retry does not help
}

// skip discards the bytes that w has, unless the response begins after them.
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

// broken returns the error of an interrupted download.
func (d *download) broken(err error) error {
	return &UnreachableError{URL: d.client.base.String(), Err: fmt.Errorf("the download was interrupted: %w", err)}
}

// source marks errors of reading, to distinguish them from those of writing.
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
