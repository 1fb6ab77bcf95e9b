package sse

import (
	"bytes"
	"context"
	"maps"
	"net/http"
	"time"

	"github.com/hark-jobs/hark/jobs"
)

// Subscriber says whose stream to open, and from where.
type Subscriber struct {
	User string
	// LastEventID is the id of the last event that the reader got; empty for a new one.
	LastEventID string
	// Expires is when the reader's token does; zero means never.
	Expires time.Time
	// TokenID and IssuedAt are the token's, for [Hub.EndToken] and [Hub.EndUser].
	TokenID  string
	IssuedAt time.Time
	// Check, if set, is called once those two would end the stream. Its error is returned in place of a stream.
	Check func() error
}

// Serve answers a request with the subscriber's event stream. It blocks until the stream ends, or takes the
// connection over and returns at once; either way the response is the stream's. It waits for [Hub.Run] to run.
// An error means that nothing was written yet: the user is not valid, the log could not be asked, the request
// ended, or, with [ErrClosed], the hub takes no more streams.
func (h *Hub) Serve(rw http.ResponseWriter, r *http.Request, sub Subscriber) error {
	if err := jobs.CheckUser(sub.User); err != nil {
		return err
	}
	select {
	case <-h.ready: // a stream that opens before broadcasts are heard could miss one
	case <-r.Context().Done():
		return r.Context().Err()
	}
	if h.takeOver && canTakeOver(rw, r) {
		return h.serveTakenOver(rw, r, sub)
	}
	w := newHandlerWire(h.o.Backlog, h.o.Patience)
	s := &stream{}
	s.init(h, w, sub)
	err := h.begin(r.Context(), s, sub)
	if err == nil {
		maps.Copy(rw.Header(), streamHeader)
		rw.WriteHeader(http.StatusOK)
		w.serve(rw, r)
	}
	s.lost()
	return err
}

// begin subscribes the stream, finds out where the log stands after that, and starts the stream from there.
func (h *Hub) begin(ctx context.Context, s *stream, sub Subscriber) error {
	if err := h.add(s, sub.User); err != nil {
		return err
	}
	if sub.Check != nil {
		if err := sub.Check(); err != nil {
			s.lost()
			return err
		}
	}
	first, last, err := h.bounds.get(ctx)
	if err != nil {
		s.lost()
		return err
	}
	s.start(sub, h.currentEpoch(), first, last)
	return nil
}

// streamHeader is what every stream's response has.
var streamHeader = http.Header{
	"Content-Type":      {"text/event-stream"},
	"Cache-Control":     {"no-store"},
	"X-Accel-Buffering": {"no"}, // nginx would hold events back
}

// inStreamHeader has the names of what a stream's head has already.
var inStreamHeader = func() map[string]bool {
	names := map[string]bool{"Connection": true} // which the head of a stream has, too
	for name := range streamHeader {
		names[name] = true
	}
	return names
}()

// responseHead writes the head of a response whose end is the connection's (RFC 9112, section 6.3, point 8), and leaves
// room behind it for what a stream says first.
func responseHead(header http.Header) []byte {
	head := bytes.NewBuffer(make([]byte, 0, 1<<10))
	head.WriteString("HTTP/1.1 200 OK\r\nConnection: close\r\nDate: ")
	head.Write(time.Now().UTC().AppendFormat(head.AvailableBuffer(), http.TimeFormat))
	head.WriteString("\r\n")
	streamHeader.Write(head) // a buffer takes everything
	header.WriteSubset(head, inStreamHeader)
	head.WriteString("\r\n")
	return head.Bytes()
}
