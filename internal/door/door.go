// Package door is what every HTTP connection passes: how long a request may take to arrive, how long its answer may wait
// for its reader, and how many connections there may be.
package door

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"time"
)

// Deadlines are how long things may take. The zero value of a field is its default.
type Deadlines struct {
	// Header is for the head of a request, from its first byte, or from the connection's first moment. 10 s.
	Header time.Duration
	// Body is for a body, from the end of the head. 30 s. Handlers that take longer ones set their own deadline.
	Body time.Duration
	// Drain is for what is left of a body after the answer is made. 1 s.
	Drain time.Duration
	// Write is for an answer, or, where a handler sets its deadline anew as it goes, for each part of it. 30 s.
	Write time.Duration
	// Idle is for the pause between two requests. 2 min.
	Idle time.Duration
}

func (d *Deadlines) defaults() {
	for field, value := range map[*time.Duration]time.Duration{
		&d.Header: 10 * time.Second, &d.Body: 30 * time.Second, &d.Drain: time.Second, &d.Write: 30 * time.Second, &d.Idle: 2 * time.Minute,
	} {
		if *field == 0 {
			*field = value
		}
	}
}

// Options of a server. Handler is required.
type Options struct {
	Handler   http.Handler
	Deadlines Deadlines
	// Limit is what admits connections; nil admits all.
	Limit *Limit
	// Full answers the requests on connections that are more than the limit allows; required with Limit. They are closed
	// after one answer.
	Full http.Handler
}

// NewServer returns a server whose requests have deadlines and whose connections are limited.
func NewServer(o Options) *http.Server {
	o.Deadlines.defaults()
	d := &o.Deadlines
	s := &http.Server{
		Handler:           &door{o},
		ReadHeaderTimeout: d.Header, IdleTimeout: d.Idle, WriteTimeout: d.Write,
		MaxHeaderBytes: 32 << 10,
	}
	s.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		fewUnsent(c)
		if o.Limit == nil {
			return ctx
		}
		return o.Limit.admit(ctx, c)
	}
	if o.Limit != nil {
		s.ConnState = o.Limit.leave
	}
	return s
}

type door struct{ Options }

// ServeHTTP gives the body its deadline. (http.Server.ReadTimeout would count on after the body has come: net/http reads
// on to notice that the client has gone, would take the deadline for that, and cancel a request that waits or downloads.)
func (d *door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	next := d.Handler
	if d.Limit != nil && isFull(r.Context()) {
		w.Header().Set("Connection", "close")
		next = d.Full
	}
	if r.ContentLength == 0 || r.Body == nil || r.Body == http.NoBody {
		next.ServeHTTP(w, r)
		return
	}
	switch r.Method {
	case http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete:
	default:
		// No handler reads it. net/http would wait for it before it answers, unless the connection ends then.
		w.Header().Set("Connection", "close")
	}
	// A connection that cannot have deadlines is a test's.
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(d.Deadlines.Body))
	b := &body{ReadCloser: r.Body, control: control}
	with := r.WithContext(r.Context()) // net/http looks at the body of its own
	with.Body = b
	next.ServeHTTP(w, with)
	if !b.whole { // net/http reads some of what is left before it answers
		now := time.Now()
		_ = control.SetReadDeadline(now.Add(d.Deadlines.Drain))
		_ = control.SetWriteDeadline(now.Add(d.Deadlines.Drain + d.Deadlines.Write))
	}
}

// body takes its deadline away when it has come whole.
type body struct {
	io.ReadCloser
	control *http.ResponseController
	whole   bool
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) && !b.whole {
		b.whole = true
		_ = b.control.SetReadDeadline(time.Time{})
	}
	return n, err
}

type fullKey struct{}

func isFull(ctx context.Context) bool { return ctx.Value(fullKey{}) != nil }
