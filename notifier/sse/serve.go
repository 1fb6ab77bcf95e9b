package sse

import (
	"bytes"
	"context"
	"maps"
	"net/http"
	"time"

	"github.com/hark-jobs/hark/jobs"
)

// Subscriber says whose stream to open, and from which position.
type Subscriber struct {
	User string
	// LastEventID is the id of the last event that the reader got. Without one the stream begins at the end of the
	// log.
	LastEventID string
	// Topics are the topics of live events that the stream listens to: as [jobs.CheckTopic] accepts them, [jobs.TopicUser] or
	// [jobs.TopicAll]. The caller checks that the user may. Defaults to none.
	Topics []string
	// Expires is the time at which the reader's token expires. Zero means never.
	Expires time.Time
	// TokenID and IssuedAt identify the token, for [Hub.EndToken] and [Hub.EndUser].
	TokenID  string
	IssuedAt time.Time
	// Check, if set, is called after the stream can be ended by EndToken and EndUser. If it returns an error, the
	// stream is not opened, and the error is returned.
	Check func() error
}

// Serve answers a request with the subscriber's event stream. It waits until [Hub.Run] is running. Then it blocks
// until the stream ends, or takes the connection over and returns at once. In both cases the response is complete
// for net/http.
//
// An error means that nothing was written: the user is invalid, the end of the log is not known, Check has failed,
// the request has ended, or, with [ErrClosed], the hub is closed.
func (h *Hub) Serve(rw http.ResponseWriter, r *http.Request, sub Subscriber) error {
	if err := jobs.CheckUser(sub.User); err != nil {
		return err
	}
	select {
	case <-h.ready: // a stream that opens before the hub has subscribed could miss a broadcast
	case <-r.Context().Done():
		return r.Context().Err()
	}
	if h.takeOver && canTakeOver(rw, r) {
		return h.serveTakenOver(rw, r, sub)
	}
	c := newHandlerConn(h)
	defer c.abort()
	s := &stream{}
	s.init(h, c, sub)
	err := h.begin(r.Context(), s, sub)
	if err == nil {
		maps.Copy(rw.Header(), streamHeader)
		rw.WriteHeader(http.StatusOK)
		c.serve(rw, r)
	}
	s.connLost()
	return err
}

// begin subscribes a stream, asks for the end of the log and for what the reader has missed after that, and starts the stream.
func (h *Hub) begin(ctx context.Context, s *stream, sub Subscriber) error {
	if err := h.addStream(s, sub.User); err != nil {
		return err
	}
	if sub.Check != nil {
		if err := sub.Check(); err != nil {
			s.connLost()
			return err
		}
	}
	if err := h.listen(s, sub.User, sub.Topics); err != nil {
		s.connLost()
		return err
	}
	src := h.sourceOf(s.user.token)
	first, last, err := src.bounds.get(ctx)
	if err != nil {
		s.connLost()
		return err
	}
	from, err := h.resume(ctx, src, sub, first, last)
	if err != nil {
		s.connLost()
		return err
	}
	s.start(sub, from)
	return nil
}

// streamHeader is the header of every event stream.
var streamHeader = http.Header{
	"Content-Type": {"text/event-stream"},
	// A proxy that compresses may delay events for ever. no-transform (RFC 9111, section 5.2.2.6) forbids that, but Caddy 2.6.2
	// and nginx ignore it. They do not compress a response that has an encoding. RFC 9110, section 8.4, advises against
	// naming identity; browsers, curl, Node and Go accept it.
	"Cache-Control":     {"no-store, no-transform"},
	"Content-Encoding":  {"identity"},
	"X-Accel-Buffering": {"no"}, // nginx would delay events
}

// streamHeaderNames has the header fields that responseHead writes itself.
var streamHeaderNames = func() map[string]bool {
	names := map[string]bool{"Connection": true} // written by responseHead, too
	for name := range streamHeader {
		names[name] = true
	}
	return names
}()

// responseHead returns the head of a response that ends with its connection (RFC 9112, section 6.3, point 8). The
// slice has room for the first events of the stream.
func responseHead(header http.Header) []byte {
	head := bytes.NewBuffer(make([]byte, 0, 1<<10))
	head.WriteString("HTTP/1.1 200 OK\r\nConnection: close\r\nDate: ")
	head.Write(time.Now().UTC().AppendFormat(head.AvailableBuffer(), http.TimeFormat))
	head.WriteString("\r\n")
	streamHeader.Write(head) // writing to a buffer does not fail
	header.WriteSubset(head, streamHeaderNames)
	head.WriteString("\r\n")
	return head.Bytes()
}
