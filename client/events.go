package client

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strconv"
	"strings"
	"time"
)

// maxEvent limits the size of an event of a stream, and of a line, in bytes.
const maxEvent = 4 << 20

var errEventTooLong = errors.New("an event is longer than 4 MiB")

// eventReader reads a text/event-stream (WHATWG HTML, section 9.2.6).
//
// hark has its own reader, because that of go-sse returns the incomplete last event of a broken connection, which the standard
// discards, and does not return the retry field.
type eventReader struct {
	r       *bufio.Reader
	started bool
	afterCR bool // the last line ended with CR, so an LF next belongs to it

	// LastEventID is the id to resume after: that of the last complete event.
	LastEventID string
	// Retry is the last reconnection time that the stream has set, 0 if none.
	Retry time.Duration
}

func newEventReader(r io.Reader, lastEventID string) *eventReader {
	return &eventReader{r: bufio.NewReader(r), LastEventID: lastEventID}
}

// next returns the next event with data. At the end of the stream the error is [io.EOF]. An event without its empty line is
// discarded.
func (e *eventReader) next() (Event, error) {
	var data []byte
	typ, id, hasData := "", e.LastEventID, false
	for {
		line, err := e.line()
		if err != nil {
			return Event{}, err
		}
		if len(line) == 0 {
			e.LastEventID = id
			if !hasData {
				typ = ""
				continue
			}
			if typ == "" {
				typ = "message"
			}
			return Event{ID: id, Type: typ, Data: bytes.TrimSuffix(data, []byte("\n"))}, nil
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimPrefix(value, []byte(" "))
		switch string(name) { // a comment has the name ""
		case "event":
			typ = string(value)
		case "data":
			if len(data)+len(value) > maxEvent {
				return Event{}, errEventTooLong
			}
			data, hasData = append(append(data, value...), '\n'), true
		case "id":
			if !bytes.ContainsRune(value, 0) {
				id = string(value)
			}
		case "retry":
			e.retry(string(value))
		}
	}
}

// retry sets Retry, up to a day. It ignores values that are not digits.
func (e *eventReader) retry(value string) {
	if strings.Trim(value, "0123456789") != "" {
		return
	}
	if ms, err := strconv.ParseUint(value, 10, 32); err == nil {
		e.Retry = min(time.Duration(ms)*time.Millisecond, 24*time.Hour)
	}
}

// line returns the next line without its end, which is CR, LF or both. It returns after the first of them. A last line without
// an end is discarded.
func (e *eventReader) line() ([]byte, error) {
	var line []byte
	for {
		b, err := e.r.ReadByte()
		if err != nil {
			return nil, err
		}
		wasCR := e.afterCR
		e.afterCR = b == '\r'
		switch {
		case b == '\n' && wasCR:
			continue
		case b == '\n' || b == '\r':
			if !e.started {
				e.started = true
				line = bytes.TrimPrefix(line, []byte("\xef\xbb\xbf"))
			}
			return line, nil
		}
		line = append(line, b)
		if len(line) > maxEvent {
			return nil, errEventTooLong
		}
	}
}
