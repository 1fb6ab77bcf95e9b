package faults

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// Tab is an EventSource: it reads a stream, and reconnects with the id of its last event when the stream ends, as long as its
// process runs.
type Tab struct {
	Read func() // makes the tab read from now on

	process  *process
	client   *client
	user     string
	ctx      context.Context
	cancel   context.CancelFunc
	body     io.ReadCloser
	lines    *bufio.Scanner
	last     string // the id of the last event; of the goroutine that reads, until ended
	messages chan string
	ended    chan struct{}
}

func (t *Tab) connect() error {
	res, err := t.client.do(t.ctx, "GET", t.process.app.o.Events, t.last, nil)
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		res.Body.Close()
		return fmt.Errorf("the stream is answered with %s", res.Status)
	}
	t.body, t.lines = res.Body, bufio.NewScanner(res.Body)
	t.lines.Buffer(nil, 1<<20)
	if t.process.app.o.Hello {
		for t.last == "" && t.readEvent() {
		}
	}
	return nil
}

func (t *Tab) read() {
	defer close(t.ended)
	defer close(t.messages)
	for {
		for t.readEvent() {
		}
		t.body.Close()
		for {
			select {
			case <-t.ctx.Done():
				return
			case <-t.process.ending:
				return
			case <-time.After(10 * time.Millisecond):
			}
			if t.connect() == nil {
				break
			}
		}
	}
}

// readEvent reads an event (WHATWG HTML, section 9.2.6). It returns false at the end of the stream.
func (t *Tab) readEvent() bool {
	var event, data string
	for t.lines.Scan() {
		name, value, _ := strings.Cut(t.lines.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch name {
		case "event":
			event = value
		case "id":
			t.last = value
		case "data":
			data = value
		case "":
			if text, ok := message(event, data); ok {
				t.messages <- text
			}
			return true
		}
	}
	return false
}

// message returns the text of an event that is a message.
func message(event, data string) (text string, ok bool) {
	switch event {
	case "":
		return data, data != ""
	case "notification": // of hark
		var n struct{ Title, Body string }
		if err := json.Unmarshal([]byte(data), &n); err != nil {
			return err.Error(), true
		}
		return cmp.Or(n.Body, n.Title), true
	case "reset": // of hark: its page lists all messages again
		return event + " " + data, true
	}
	return "", false
}

// next waits for the next message. It returns false if the tab has ended.
func (t *Tab) next() (text string, ok bool) {
	t.Read()
	select {
	case text, ok = <-t.messages:
		return text, ok
	case <-time.After(limit):
		t.process.app.t.Fatalf("the tab of %s waits in vain", t.user)
		return "", false
	}
}

func (t *Tab) mustGet(want string) {
	t.process.app.t.Helper()
	if got, ok := t.next(); got != want {
		t.process.app.t.Fatalf("the tab of %s gets %.40q, %t; want %q", t.user, got, ok, want)
	}
}

// Close closes the tab.
func (t *Tab) Close() {
	t.Read()
	t.cancel()
	<-t.ended
}

// Reopen closes the tab if it is open, and opens it again, at the process that runs now. It resumes after the last event.
func (t *Tab) Reopen() *Tab {
	t.process.app.t.Helper()
	t.Close()
	tab := t.process.app.process.open(t.user, t.last)
	tab.Read()
	return tab
}
