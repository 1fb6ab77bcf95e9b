package sse

import (
	"bytes"
	"context"
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
	s := &stream{hub: h, user: sub.User, behind: &behind{}}
	if !sub.Expires.IsZero() {
		s.expires = sub.Expires.UnixNano()
	}
	if h.takeOver && canTakeOver(rw, r) {
		return h.serveTakenOver(rw, r, s, sub.LastEventID)
	}
	w := newHandlerWire(h.o.Backlog, h.o.Patience)
	s.wire = w
	err := h.begin(r.Context(), s, sub.LastEventID)
	if err == nil {
		setHeader(rw.Header())
		rw.WriteHeader(http.StatusOK)
		w.serve(rw, r)
	}
	s.lost()
	return err
}

// begin subscribes the stream, finds out where the log stands after that, and starts the stream from there.
func (h *Hub) begin(ctx context.Context, s *stream, lastEventID string) error {
	if err := h.add(s); err != nil {
		return err
	}
	first, last, err := h.bounds.get(ctx)
	if err != nil {
		s.lost()
		return err
	}
	s.start(lastEventID, h.currentEpoch(), first, last)
	return nil
}

func setHeader(header http.Header) {
	header.Set("Content-Type", "text/event-stream")
	header.Set("Cache-Control", "no-store")
	header.Set("X-Accel-Buffering", "no") // nginx would hold events back
}

// responseHead writes the head of a response whose end is the connection's (RFC 9112, section 6.3, point 8).
func responseHead(header http.Header) []byte {
	header = header.Clone()
	setHeader(header)
	var head bytes.Buffer
	head.WriteString("HTTP/1.1 200 OK\r\nConnection: close\r\nDate: " + time.Now().UTC().Format(http.TimeFormat) + "\r\n")
	header.Write(&head) // a buffer takes everything
	head.WriteString("\r\n")
	return head.Bytes()
}
