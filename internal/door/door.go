// Package door returns HTTP servers with deadlines for requests and responses, and a limit of connections.
package door

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// Deadlines are the timeouts of a server. The zero value of a field is its default.
type Deadlines struct {
	// Header is for the head of a request, from its first byte, or from the start of the connection. Defaults to 10 s.
	Header time.Duration
	// Body is for a body, from the end of the head. Handlers that accept longer ones set their own deadline. Defaults to 30 s.
	Body time.Duration
	// Drain is for the rest of a body after the handler has returned. Defaults to 1 s.
	Drain time.Duration
	// Write is for a response, or, if a handler extends its deadline, for each part of it. Defaults to 30 s.
	Write time.Duration
	// Idle is for the pause between two requests. Defaults to 2 min.
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
	// Limit limits the connections. Defaults to no limit.
	Limit *Limit
	// Full responds to the requests on connections above the limit, which are closed after one response. It is required with
	// Limit.
	Full http.Handler
	// Logger gets what net/http has to say, such as failed TLS handshakes. Defaults to slog.Default().
	Logger *slog.Logger
}

// NewServer returns a server whose requests have deadlines and whose connections are limited.
func NewServer(o Options) *http.Server {
	o.Deadlines.defaults()
	d := &o.Deadlines
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	s := &http.Server{
		ErrorLog:          slog.NewLogLogger(o.Logger.Handler(), slog.LevelInfo),
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

// ServeHTTP sets the deadline of the body. (http.Server.ReadTimeout continues after the body has arrived: net/http reads to notice
// that the client has disconnected, would treat the deadline like that, and cancel a request that waits or downloads.)
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
		// No handler reads the body. net/http would wait for it before it responds, unless the response closes the connection.
		// With HTTP/2 it does not wait, and the connection has other requests.
		if r.ProtoMajor == 1 {
			w.Header().Set("Connection", "close")
		}
	}
	// Only the connections of tests do not support deadlines.
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(d.Deadlines.Body))
	b := &body{ReadCloser: r.Body, control: control}
	with := r.WithContext(r.Context()) // net/http keeps its own request with the original body
	with.Body = b
	next.ServeHTTP(w, with)
	if !b.complete { // net/http reads some of the rest before it responds
		now := time.Now()
		_ = control.SetReadDeadline(now.Add(d.Deadlines.Drain))
		_ = control.SetWriteDeadline(now.Add(d.Deadlines.Drain + d.Deadlines.Write))
	}
}

// body removes its deadline when it was read to its end.
type body struct {
	io.ReadCloser
	control  *http.ResponseController
	complete bool
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) && !b.complete {
		b.complete = true
		_ = b.control.SetReadDeadline(time.Time{})
	}
	return n, err
}

type fullKey struct{}

func isFull(ctx context.Context) bool { return ctx.Value(fullKey{}) != nil }
