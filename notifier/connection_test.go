package notifier_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hark-jobs/hark/harktest"
	"github.com/hark-jobs/hark/internal/natstest"
	"github.com/hark-jobs/hark/internal/polltest"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/worker"
	"golang.org/x/sys/unix"
)

// dial opens a connection from a loopback address; empty means any.
func (s *site) dial(from string) net.Conn {
	s.t.Helper()
	var d net.Dialer
	if from != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
	}
	conn, err := d.DialContext(s.t.Context(), "tcp", strings.TrimPrefix(s.URL, "http://"))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { conn.Close() })
	return conn
}

// ends reads a connection to its end, and returns what it read.
func ends(t *testing.T, conn net.Conn) string {
	t.Helper()
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	got, err := io.ReadAll(conn)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the connection is still open, after %.200q", got)
	}
	return string(got)
}

// The connection of a client that sends too slowly, or nothing, is closed.
func TestNothingKeepsAConnection(t *testing.T) {
	s := start(t, harktest.Patience(200*time.Millisecond), harktest.Handlers(leave))
	job := s.finish("ana", `{"kind":"leave","params":{"name":"x","text":"y"}}`)
	token := "Host: localhost\r\nAuthorization: Bearer " + s.Token("ana") + "\r\n"
	const host, half = "Host: localhost\r\n", "Content-Length: 10\r\n\r\n12345"
	const chunked = "Transfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n"
	for name, c := range map[string]struct{ sends, then, status string }{
		"nothing":               {"", "", ""},
		"half a line":           {"GET / HT", "", ""},
		"half a head":           {"GET / HTTP/1.1\r\n" + host, "", ""},
		"a head without an end": {"GET / HTTP/1.1\r\n" + host + "X: ", "x", ""},
		"an idle connection":    {"GET /livez HTTP/1.1\r\n" + host + "\r\n", "", "200"},
		"a byte of the next":    {"GET /livez HTTP/1.1\r\n" + host + "\r\nG", "", "200"},
		"page, half a body":     {"GET / HTTP/1.1\r\n" + host + half, "", "200"},
		"page, chunks":          {"GET / HTTP/1.1\r\n" + host + chunked, "", "200"},
		"page, posted to":       {"POST / HTTP/1.1\r\n" + host + half, "", "405"},
		"script, half a body":   {"GET /hark.js HTTP/1.1\r\n" + host + half, "", "200"},
		"livez, half a body":    {"GET /livez HTTP/1.1\r\n" + host + half, "", "200"},
		"livez, a slow body":    {"GET /livez HTTP/1.1\r\n" + host + "Content-Length: 100000\r\n\r\n", "x", "200"},
		"readyz, half a body":   {"GET /readyz HTTP/1.1\r\n" + host + half, "", "200"},
		"metrics, half a body":  {"GET /metrics HTTP/1.1\r\n" + host + half, "", "200"},
		"nowhere, half a body":  {"GET /nope HTTP/1.1\r\n" + host + half, "", "404"},
		"nowhere, posted to":    {"POST /nope HTTP/1.1\r\n" + host + half, "", "404"},
		"nowhere, put slowly":   {"PUT /nope HTTP/1.1\r\n" + host + "Content-Length: 100000\r\n\r\n", "x", "404"},
		"foreign, half a body":  {"POST /v1/jobs HTTP/1.1\r\nHost: evil.example\r\n" + half, "", "421"},
		"options, half a body":  {"OPTIONS /v1/jobs HTTP/1.1\r\n" + host + half, "", "204"},
		"list, half a body":     {"GET /v1/jobs HTTP/1.1\r\n" + token + half, "", "200"},
		"file, half a body":     {"GET " + filePath(job) + " HTTP/1.1\r\n" + token + half, "", "200"},
		"file, a slow body":     {"GET " + filePath(job) + " HTTP/1.1\r\n" + token + "Transfer-Encoding: chunked\r\n\r\nfffff\r\n", "x", "200"},
		"stream, half a body":   {"GET /v1/stream HTTP/1.1\r\n" + token + half, "", "400"},
		"stream, a slow body":   {"GET /v1/stream HTTP/1.1\r\n" + token + "Transfer-Encoding: chunked\r\n\r\nfffff\r\n", "x", "400"},
		"job, half a body":      {"POST /v1/jobs HTTP/1.1\r\n" + token + half, "", ""},
		"job, a slow body":      {"POST /v1/jobs HTTP/1.1\r\n" + token + "Content-Length: 100000\r\n\r\n{", " ", ""},
		"job of nobody":         {"POST /v1/jobs HTTP/1.1\r\n" + host + half, "", "401"},
		"job to be continued":   {"POST /v1/jobs HTTP/1.1\r\n" + token + "Expect: 100-continue\r\nContent-Length: 10\r\n\r\n", "", "100"},
		"session, a slow body":  {"POST /v1/session HTTP/1.1\r\n" + host + "Content-Length: 100000\r\n\r\n{", " ", ""},
		"cancel, half a body":   {"POST /v1/jobs/" + job.ID + "/cancel HTTP/1.1\r\n" + token + half, "", "409"},
		"delete, half a body":   {"DELETE /v1/session HTTP/1.1\r\n" + host + half, "", "204"},
		"a head too large":      {"GET / HTTP/1.1\r\n" + host + "X: " + strings.Repeat("x", 100<<10), "", "431"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := *s
			s.t = t
			conn := s.dial("")
			if _, err := io.WriteString(conn, c.sends); err != nil {
				t.Fatal(err)
			}
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			if c.then != "" {
				go func() {
					tick := time.NewTicker(20 * time.Millisecond)
					defer tick.Stop()
					for {
						if _, err := io.WriteString(conn, c.then); err != nil {
							return
						}
						select {
						case <-tick.C:
						case <-ctx.Done():
							return
						}
					}
				}()
			}
			got := ends(t, conn)
			if c.status != "" && !strings.HasPrefix(got, "HTTP/1.1 "+c.status+" ") {
				t.Errorf("%.300q, want %s", got, c.status)
			}
			if n := strings.Count(got, "HTTP/1.1 "); n > 1 && c.status != "100" {
				t.Errorf("%d answers: %q", n, got)
			}
		})
	}
}

// The connection of a client that sends requests and reads no responses is closed.
func TestUnreadAnswersEnd(t *testing.T) {
	s := start(t, harktest.Patience(200*time.Millisecond))
	for _, path := range []string{"/", "/livez", "/nope", "/openapi.json", "/metrics"} {
		conn := s.dial("")
		request := strings.Repeat("GET "+path+" HTTP/1.1\r\nHost: localhost\r\n\r\n", 100)
		_ = conn.SetWriteDeadline(time.Now().Add(patience))
		for {
			if _, err := io.WriteString(conn, request); errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%s: the connection is still open", path)
			} else if err != nil {
				break
			}
		}
	}
}

// hugeFile writes a file that does not fit into the buffers of a socket.
var hugeFile = worker.Handle(jobs.Define[struct{}](jobs.Kind{Name: "huge"}), func(ctx context.Context, job *worker.Job, _ struct{}) (jobs.Result, error) {
	return jobs.Result{}, job.WriteFile(ctx, "large.txt", "text/plain", func(w io.Writer) error {
		block := strings.Repeat("0123456789abcdef", 64<<10)
		for range largeSize >> 20 {
			if _, err := io.WriteString(w, block); err != nil {
				return err
			}
		}
		return nil
	})
})

const largeSize = 24 << 20

// A download whose client reads nothing is cut. One with a slow client continues to its end.
func TestDownloadEndsOnlyIfNothingIsTaken(t *testing.T) {
	const short = 4 * time.Second // longer than this machine stands still
	s := start(t, harktest.Patience(short), harktest.Handlers(hugeFile))
	job := s.finish("ana", `{"kind":"huge"}`)
	open := func() net.Conn {
		// If the client's kernel buffers megabytes, the server cannot see how fast the client reads.
		d := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
			return c.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 256<<10) })
		}}
		conn, err := d.DialContext(t.Context(), "tcp", strings.TrimPrefix(s.URL, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\n\r\n", filePath(job), s.Token("ana"))
		return conn
	}
	deaf, slow := open(), open()
	res, err := http.ReadResponse(bufio.NewReaderSize(slow, 16), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	began, got := time.Now(), int64(0)
	for {
		_ = slow.SetReadDeadline(time.Now().Add(patience))
		n, err := io.CopyN(io.Discard, res.Body, 32<<10)
		got += n
		if err == io.EOF {
			break
		} else if err != nil {
			t.Fatalf("after %d bytes and %v: %v", got, time.Since(began), err)
		}
		if time.Since(began) < 3*short {
			time.Sleep(short / 25) // the client must be slow
		}
	}
	if got != largeSize || time.Since(began) < 2*short {
		t.Errorf("%d bytes in %v", got, time.Since(began))
	}
	if n := len(ends(t, deaf)); n >= largeSize {
		t.Error("it was taken after all; the test is blind")
	}
}

// A client must not send anything on a stream. What it sends is not read, and does not stay in the kernel's buffers.
func TestStreamThatTalksEnds(t *testing.T) {
	s := start(t)
	head := "GET /v1/stream HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " + s.Token("ana") + "\r\n\r\n"
	quiet, _ := s.listen("/v1/stream", s.as("ana")...)
	later := s.dial("")
	if _, err := io.WriteString(later, head); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(later).ReadString('\n'); err != nil || !strings.HasPrefix(line, "HTTP/1.1 200") {
		t.Fatal(line, err)
	}
	if _, err := io.WriteString(later, head); err != nil {
		t.Fatal(err)
	}
	ends(t, later)
	pipelined := s.dial("")
	if _, err := io.WriteString(pipelined, head+head); err != nil {
		t.Fatal(err)
	}
	if got := ends(t, pipelined); strings.Count(got, "HTTP/1.1 ") > 1 {
		t.Errorf("%q", got)
	}
	s.notify(`{"user":"ana","type":"t","title":"still here"}`)
	if e := quiet.until("notification"); !strings.Contains(e.data, "still here") {
		t.Errorf("%+v", e)
	}
	polltest.Until(t, "one stream is left", func() bool { return strings.Contains(string(s.call("GET", "/metrics", "").body), "hark_streams 1\n") })
}

// A connection above the limit gets a problem that says what to do, and the streams of others continue.
func TestConnectionsAreLimited(t *testing.T) {
	const most, ours = 40, 9 // the test's own client keeps up to 8
	// No deadline closes a connection.
	s := start(t, harktest.Connections(most, 0), harktest.Patience(time.Hour))
	var streams []*stream
	for range most - ours {
		st, _ := s.listen("/v1/stream", s.as(fmt.Sprint("user", len(streams)))...)
		streams = append(streams, st)
	}
	var idle []net.Conn
	refused := ""
	polltest.Until(t, "one is refused", func() bool {
		conn := s.dial("")
		idle = append(idle, conn)
		fmt.Fprint(conn, "GET /v1/session HTTP/1.1\r\nHost: localhost\r\n\r\n")
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		line, _ := bufio.NewReader(conn).ReadString('\n')
		if !strings.Contains(line, " 401 ") {
			refused = line
		}
		return refused != ""
	})
	if !strings.HasPrefix(refused, "HTTP/1.1 503 ") || len(idle) > ours+1 {
		t.Errorf("%q after %d", refused, len(idle))
	}
	status, code, header := s.raw("GET /v1/session HTTP/1.1\r\nHost: localhost\r\n\r\n")
	if status != 503 || code != "too_many_connections" || header.Get("Retry-After") == "" || header.Get("Connection") != "close" {
		t.Errorf("%d %s %v", status, code, header)
	}
	for path, want := range map[string]int{"/livez": 200, "/readyz": 200, "/v1/stream": 503} { // a process at its limit must not be killed
		if status, _, _ := s.raw("GET " + path + " HTTP/1.1\r\nHost: localhost\r\n\r\n"); status != want {
			t.Errorf("%s: %d", path, status)
		}
	}
	// Far above the limit connections are closed silently, and delay nothing.
	var closed atomic.Int64
	var flood []net.Conn
	for range 3 * most {
		flood = append(flood, s.dial(""))
	}
	for _, conn := range flood {
		go func() {
			_, _ = conn.Read(make([]byte, 1))
			closed.Add(1)
		}()
	}
	polltest.Nil(t, "connections are closed", func() error {
		if n := closed.Load(); n < most {
			return fmt.Errorf("only %d of %d were", n, len(flood))
		}
		return nil
	})
	if _, _, err := s.Queue.Store().Notify(natstest.Context(t), jobs.Everyone, jobs.Notification{Type: "t", Title: "still here"}); err != nil {
		t.Fatal(err)
	}
	for _, st := range streams {
		if e := st.until("notification"); !strings.Contains(e.data, "still here") {
			t.Fatalf("%+v", e)
		}
	}
	for _, conn := range append(idle, flood...) {
		conn.Close()
	}
	streams[0].body.Close()
	polltest.Until(t, "there is room again", func() bool {
		conn := s.dial("")
		defer conn.Close()
		fmt.Fprint(conn, "GET /v1/session HTTP/1.1\r\nHost: localhost\r\n\r\n")
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		line, _ := bufio.NewReader(conn).ReadString('\n')
		return strings.Contains(line, " 401 ")
	})
}

// One address cannot use all connections. Its streams count, and closed connections do not.
func TestConnectionsOfAnAddressAreLimited(t *testing.T) {
	const each = 5
	s := start(t, harktest.Connections(0, each))
	status := func(from, path string) (net.Conn, string) {
		conn := s.dial(from)
		fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\n\r\n", path, s.Token("ana"))
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		line, _ := bufio.NewReader(conn).ReadString('\n')
		_, line, _ = strings.Cut(line, " ")
		return conn, line[:min(3, len(line))]
	}
	for range 3 {
		var held []net.Conn
		polltest.Until(t, "there is room", func() bool {
			for _, conn := range held {
				conn.Close()
			}
			held = held[:0]
			for i := range each {
				conn, got := status("127.0.0.2", []string{"/v1/stream", "/v1/session"}[i%2])
				held = append(held, conn)
				if got != "200" {
					return false
				}
			}
			return true
		})
		if _, got := status("127.0.0.2", "/v1/session"); got != "503" {
			t.Errorf("one more: %s", got)
		}
		if _, got := status("127.0.0.3", "/v1/session"); got != "200" {
			t.Errorf("another: %s", got)
		}
		for _, conn := range held {
			conn.Close()
		}
	}
}
