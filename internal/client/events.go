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

// maxEvent limits one event of a stream, and one line of it.
const maxEvent = 4 << 20

var errEventTooLong = errors.New("an event is longer than 4 MiB")

// eventReader reads a text/event-stream (WHATWG HTML, section 9.2.6).
//
// It is our own because the reader of go-sse, weighed for it, hands out the half of an event that a broken
// connection left, where the standard discards it, and keeps the retry field to itself.
type eventReader struct {
	r       *bufio.Reader
	started bool
	afterCR bool // the last line ended with CR, so an LF next belongs to it

	// LastEventID is the id to resume from, as of the last event that ended.
	LastEventID string
	// Retry is the last reconnection time the stream set, 0 if it set none.
	Retry time.Duration
}

func newEventReader(r io.Reader, lastEventID string) *eventReader {
	return &eventReader{r: bufio.NewReader(r), LastEventID: lastEventID}
}

// next returns the next event that has data. At the end of the stream the error is [io.EOF], and an event
// without its empty line is not one.
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

// retry takes digits only, of at most a day.
func (e *eventReader) retry(value string) {
	if strings.Trim(value, "0123456789") != "" {
		return
	}
	if ms, err := strconv.ParseUint(value, 10, 32); err == nil {
		e.Retry = min(time.Duration(ms)*time.Millisecond, 24*time.Hour)
	}
}

// line returns the next line without its end, CR, LF or both. It returns as soon as the first of them is
// there. Like [io.EOF], a last line without an end is no line.
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
		if line = append(line, b); len(line) > maxEvent {
			return nil, errEventTooLong
		}
	}
}
