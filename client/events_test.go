package client

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

func TestEventReader(t *testing.T) {
	for name, c := range map[string]struct {
		in     string
		want   string // type|id|data, one event after the other
		lastID string
	}{
		"one":                  {"event: job\nid: a-1\ndata: {}\n\n", "job|a-1|{};", "a-1"},
		"the default type":     {"data: x\n\n", "message||x;", ""},
		"the id stays":         {"id: 1\ndata: x\n\ndata: y\n\n", "message|1|x;message|1|y;", "1"},
		"the id is reset":      {"id: 1\ndata: x\n\nid\ndata: y\n\n", "message|1|x;message||y;", ""},
		"an id with a zero":    {"id: 1\n\nid: 2\x00\ndata: x\n\n", "message|1|x;", "1"},
		"an id alone":          {"id: 7\n\n", "", "7"},
		"lines":                {"data: a\ndata:\ndata:  b\n\n", "message||a\n\n b;", ""},
		"empty data":           {"data\n\n", "message||;", ""},
		"CR":                   {"event:a\rdata:b\r\rdata:c\r\r", "a||b;message||c;", ""},
		"CRLF":                 {"event:a\r\ndata:b\r\n\r\ndata:c\r\n\r\n", "a||b;message||c;", ""},
		"a BOM":                {"\xef\xbb\xbfdata: x\n\n", "message||x;", ""},
		"a BOM later":          {"data: x\n\xef\xbb\xbfdata: y\n\n", "message||x;", ""},
		"comments and unknown": {": hello\nfoo: bar\nfoo\ndata: x\n:\n\n", "message||x;", ""},
		"no data, no event":    {"event: a\n\ndata: x\n\n", "message||x;", ""},
		"half an event":        {"id: 1\ndata: x\n\nid: 2\ndata: y\n", "message|1|x;", "1"},
		"half a line":          {"data: x\n\ndata: y", "message||x;", ""},
	} {
		t.Run(name, func(t *testing.T) {
			for _, r := range []io.Reader{strings.NewReader(c.in), iotest.OneByteReader(strings.NewReader(c.in))} {
				events, got := newEventReader(r, ""), ""
				event, err := events.next()
				for ; err == nil; event, err = events.next() {
					got += event.Type + "|" + event.ID + "|" + string(event.Data) + ";"
				}
				if !errors.Is(err, io.EOF) || got != c.want || events.LastEventID != c.lastID {
					t.Errorf("got %q, id %q, %v, want %q, %q, EOF", got, events.LastEventID, err, c.want, c.lastID)
				}
			}
		})
	}
}

// TestEventIsReturnedAtOnce checks that an event does not wait for the byte after it, LF or not.
func TestEventIsReturnedAtOnce(t *testing.T) {
	r, w := io.Pipe()
	defer w.Close()
	events := newEventReader(r, "")
	go w.Write([]byte("data: x\r\n\r"))
	if event, err := events.next(); err != nil || string(event.Data) != "x" {
		t.Errorf("got %q, %v", event.Data, err)
	}
}

func TestEventReaderRetry(t *testing.T) {
	for in, want := range map[string]time.Duration{
		"1500": 1500 * time.Millisecond, "0": 0, "": 0, "-1": 0, "+1": 0, "1.5": 0, "1e3": 0, "99999999999999": 0, "4000000000": 24 * time.Hour,
	} {
		events := newEventReader(strings.NewReader("retry: "+in+"\n\n"), "")
		if _, err := events.next(); !errors.Is(err, io.EOF) || events.Retry != want {
			t.Errorf("%q: got %v, %v, want %v", in, events.Retry, err, want)
		}
	}
}

func TestEventReaderLimits(t *testing.T) {
	for name, in := range map[string]string{
		"one line":   "data: " + strings.Repeat("x", maxEvent+1),
		"many lines": strings.Repeat("data: "+strings.Repeat("x", 1000)+"\n", maxEvent/1000+1),
	} {
		if _, err := newEventReader(strings.NewReader(in), "").next(); !errors.Is(err, errEventTooLong) {
			t.Errorf("%s: %v", name, err)
		}
	}
	large := strings.Repeat("x", 1<<20)
	if event, err := newEventReader(strings.NewReader("data: "+large+"\n\n"), "").next(); err != nil || string(event.Data) != large {
		t.Errorf("an event of 1 MiB: %d bytes, %v", len(event.Data), err)
	}
}

func FuzzEventReader(f *testing.F) {
	f.Add("event: job\nid: a-1\nretry: 5\ndata: {}\n\n")
	f.Add("\xef\xbb\xbf:\r\r\n\rdata\r\n\r\n")
	f.Fuzz(func(t *testing.T, in string) {
		read := func(r io.Reader) (out []Event) {
			events := newEventReader(r, "")
			for {
				event, err := events.next()
				if err != nil {
					return out
				}
				if strings.ContainsAny(event.Type+event.ID, "\r\n\x00") && !strings.ContainsRune(event.Type, 0) {
					t.Fatalf("a line end in %+v", event)
				}
				out = append(out, event)
			}
		}
		whole, bytewise := read(strings.NewReader(in)), read(iotest.OneByteReader(strings.NewReader(in)))
		if len(whole) != len(bytewise) {
			t.Fatalf("%d events at once, %d byte by byte", len(whole), len(bytewise))
		}
	})
}
