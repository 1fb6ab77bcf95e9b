package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/hark-jobs/hark/internal/browsertest"
	"github.com/hark-jobs/hark/internal/exampletest"
	"github.com/hark-jobs/hark/jobs"
)

func TestMain(m *testing.M) {
	gin.SetMode(gin.TestMode)
	os.Exit(m.Run())
}

// smallBuffer is how many bytes the kernel keeps of what a reader has not taken, on each side.
const smallBuffer = 4 << 10

// listener is one whose connections have small buffers, so that a slow reader is slow for hark, too.
type listener struct{ net.Listener }

func (l listener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err == nil {
		err = conn.(*net.TCPConn).SetWriteBuffer(smallBuffer)
	}
	return conn, err
}

// start runs the application until the test ends, and returns it with its URL.
func start(t *testing.T) (*app, string) {
	t.Helper()
	a, err := newApp(t.Context(), t.TempDir(), slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	base, _ := exampletest.Run(t, "/hark/readyz", func(ctx context.Context, l net.Listener) error { return a.serve(ctx, listener{l}) })
	return a, base
}

// post sends a line to the board.
func post(base, text string) error {
	res, err := http.PostForm(base+"/send", url.Values{"text": {text}})
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(res.Body)
		return fmt.Errorf("%s: %s", res.Status, body)
	}
	return nil
}

func mustPost(t *testing.T, base, text string) {
	t.Helper()
	if err := post(base, text); err != nil {
		t.Fatal(err)
	}
}

// linesAfter returns all lines of the board after an id.
func linesAfter(t *testing.T, base string, id int64) (all []line) {
	t.Helper()
	for {
		res, err := http.Get(fmt.Sprint(base, "/lines?after=", id))
		if err != nil {
			t.Fatal(err)
		}
		var some []line
		err = json.NewDecoder(res.Body).Decode(&some)
		res.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		if len(some) == 0 {
			return all
		}
		all, id = append(all, some...), some[len(some)-1].ID
	}
}

// showsAll waits until a page shows n lines, and compares them with those of the board.
func showsAll(t *testing.T, tab *browsertest.Tab, base string, n int) {
	t.Helper()
	tab.Until(fmt.Sprintf("the page has %d lines", n), fmt.Sprintf(`document.querySelectorAll("#lines li").length >= %d`, n))
	var want []string
	for _, it := range linesAfter(t, base, 0) {
		want = append(want, it.Text)
	}
	got := browsertest.Eval[[]string](tab, `[...document.querySelectorAll("#lines li")].map((li) => li.textContent)`)
	if len(want) != n || !slices.Equal(got, want) {
		t.Errorf("the page has %.200q, want the %d lines of the board in their order: %.200q", got, n, want)
	}
}

// Two browsers send lines, and many others do at the same time: both pages show all of them, once, in the order of the board.
func TestSameOrder(t *testing.T) {
	_, base := start(t)
	one, two := browsertest.New(t, browsertest.Options{}).Tab(base), browsertest.New(t, browsertest.Options{}).Tab(base)
	say := func(tab *browsertest.Tab, text string) {
		t.Helper()
		tab.Fill("[name=text]", text)
		tab.Click("#form button")
		tab.Until("the page has sent it", `document.querySelector("[name=text]").value === ""`)
	}
	say(one, "Is anybody here?")
	two.Shows("#lines", "Is anybody here?")
	say(two, "Yes.")
	one.Shows("#lines", "Yes.")
	var others sync.WaitGroup
	for i := range 10 {
		others.Go(func() {
			for j := range 10 {
				if err := post(base, fmt.Sprintf("line %d of %d", j, i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := range 5 {
		say(one, fmt.Sprintf("one says %d", i))
		say(two, fmt.Sprintf("two says %d", i))
	}
	others.Wait()
	showsAll(t, one, base, 112)
	showsAll(t, two, base, 112)
	if err := post(base, " "); err == nil {
		t.Error("an empty line was accepted")
	}
	if err := post(base, strings.Repeat("é", maxText+1)); err == nil {
		t.Error("a line that is too long was accepted")
	}
	mustPost(t, base, strings.Repeat("<", maxText)) // in JSON it takes the most room
	one.Until("the longest line is there", fmt.Sprintf(`document.querySelector("#lines li:last-child").textContent.length === %d`, maxText))
}

// A page shows the lines in the order of the board when their events come in another order, and also a line whose event never
// comes.
func TestEventsOutOfOrder(t *testing.T) {
	a, base := start(t)
	tab := browsertest.New(t, browsertest.Options{}).Tab(base)
	mustPost(t, base, "one")
	tab.Shows("#lines", "one")
	for _, text := range []string{"two", "three", "four"} {
		if _, err := a.db.ExecContext(t.Context(), `INSERT INTO lines (text) VALUES (?)`, text); err != nil {
			t.Fatal(err)
		}
	}
	publish := func(it line) {
		t.Helper()
		data, err := json.Marshal(it)
		if err == nil {
			err = a.hark.Queue().Publish(t.Context(), jobs.LiveEvent{Topic: topic, Type: "line", Data: data})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	publish(line{4, "four"})
	publish(line{2, "two"})
	mustPost(t, base, "five")
	tab.Shows("#lines", "five")
	showsAll(t, tab, base, 5)
}

// A page that is frozen by its browser, as a tab that was hidden for long, has all lines when it goes on.
func TestFrozenPage(t *testing.T) {
	_, base := start(t)
	tab := browsertest.New(t, browsertest.Options{}).Tab(base)
	mustPost(t, base, "before")
	tab.Shows("#lines", "before")
	tab.Freeze()
	for i := range maxLines + 50 { // more than one response has
		mustPost(t, base, fmt.Sprintf("line %d", i))
	}
	tab.Thaw()
	showsAll(t, tab, base, maxLines+51)
}

// reader is a reader of GET /stream that is no browser: it has no cookie.
type reader struct {
	t    *testing.T
	conn net.Conn
	body *bufio.Reader
}

// open opens a stream and returns after its hello event: from then on it listens.
func open(t *testing.T, base string) *reader {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.(*net.TCPConn).SetReadBuffer(smallBuffer); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "GET /stream HTTP/1.1\r\nHost: %s\r\n\r\n", strings.TrimPrefix(base, "http://"))
	res, err := http.ReadResponse(bufio.NewReaderSize(conn, smallBuffer), nil)
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(res.Body)
		t.Fatalf("%s: %s", res.Status, body)
	}
	r := &reader{t, conn, bufio.NewReaderSize(res.Body, smallBuffer)}
	if name, _ := r.next(); name != "hello" {
		t.Fatalf("the stream begins with %s, want hello", name)
	}
	return r
}

// next returns the next event but for heartbeats.
func (r *reader) next() (name, data string) {
	r.t.Helper()
	if err := r.conn.SetReadDeadline(time.Now().Add(3 * time.Minute)); err != nil { // much longer than anything takes
		r.t.Fatal(err)
	}
	for {
		text, err := r.body.ReadString('\n')
		if err != nil {
			r.t.Fatalf("the stream has ended: %v", err)
		}
		field, value, _ := strings.Cut(strings.TrimSuffix(text, "\n"), ": ")
		switch {
		case field == "event":
			name = value
		case field == "data":
			data = value
		case text == "\n" && name == "heartbeat":
			name, data = "", ""
		case text == "\n" && name != "":
			return name, data
		}
	}
}

// line returns the line of a live event.
func (r *reader) line(data string) line {
	r.t.Helper()
	var event struct{ Data line }
	if err := json.Unmarshal([]byte(data), &event); err != nil {
		r.t.Fatal(err)
	}
	return event.Data
}

// A reader that takes nothing while the board is busy is not dropped. On the same connection it gets the event missed, fetches
// the lines that it lacks, and gets the next line live. It delays no other reader.
func TestSlowReader(t *testing.T) {
	_, base := start(t)
	slow, fast := open(t, base), open(t, base)
	const lines = 200
	for i := int64(1); i <= lines; i++ {
		mustPost(t, base, fmt.Sprint(i, " ", strings.Repeat("x", maxText-10)))
		// It takes each line before the next one is sent, so it misses none.
		if name, data := fast.next(); name != "live" || fast.line(data).ID != i {
			t.Fatalf("the fast reader has %s, %.100s; want line %d", name, data, i)
		}
	}

	var got []int64
	for {
		name, data := slow.next()
		if name == "live" {
			got = append(got, slow.line(data).ID)
			continue
		}
		if name != "missed" || data != `{"topics":["board"]}` {
			t.Fatalf("the slow reader has %s, %s; want missed", name, data)
		}
		break
	}
	if len(got) == lines {
		t.Error("the slow reader has missed nothing; the test is blind")
	}
	last := int64(0)
	if len(got) > 0 {
		last = got[len(got)-1]
	}
	for _, it := range linesAfter(t, base, last) {
		got = append(got, it.ID)
	}
	for i, id := range got {
		if id != int64(i+1) {
			t.Fatalf("the slow reader has the lines %v, want 1 to %d", got, lines)
		}
	}
	if len(got) != lines {
		t.Errorf("the slow reader has %d lines, want %d", len(got), lines)
	}
	mustPost(t, base, "next")
	for { // missed may come again
		name, data := slow.next()
		if name == "live" && slow.line(data).Text == "next" {
			break
		}
		if name != "missed" {
			t.Fatalf("the slow reader has %s, %s; want the next line", name, data)
		}
	}
}
