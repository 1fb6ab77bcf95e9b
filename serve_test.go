package hark_test

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/hark-jobs/hark"
	"github.com/hark-jobs/hark/internal/polltest"
	"github.com/hark-jobs/hark/jobs"
)

// serve serves router and hark below /hark, until stop is called.
func serve(t *testing.T, router *gin.Engine) (base string, listener net.Listener, stop func(), ended chan error) {
	t.Helper()
	srv, err := hark.New(t.Context(), hark.Options{Data: t.TempDir(), Auth: byHeader{}, Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	group := router.Group("/hark")
	srv.Register(group)
	srv.RegisterHealth(group)
	listener, err = new(net.ListenConfig).Listen(t.Context(), "tcp", "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	t.Cleanup(stop)
	ended = make(chan error, 1)
	go func() { ended <- srv.Serve(ctx, listener, router) }()
	base = "http://" + listener.Addr().String()
	polltest.Until(t, "hark is ready", func() bool {
		res, err := http.Get(base + "/hark/readyz")
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		return res.StatusCode == http.StatusOK
	})
	return base, listener, stop, ended
}

// When Serve ends, a stream gets bye while a request of the program is still being answered, and that is answered whole.
func TestServe(t *testing.T) {
	router := gin.New()
	answering, answer := make(chan struct{}), make(chan struct{})
	router.GET("/slow", func(c *gin.Context) {
		close(answering)
		<-answer
		c.String(http.StatusOK, "whole")
	})
	base, listener, stop, ended := serve(t, router)
	req, err := http.NewRequestWithContext(t.Context(), "GET", base+"/hark/v1/stream", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-User", "ana")
	stream, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Body.Close()
	slow := make(chan string, 1)
	go func() {
		res, err := http.Get(base + "/slow")
		if err != nil {
			slow <- err.Error()
			return
		}
		defer res.Body.Close()
		text, _ := io.ReadAll(res.Body)
		slow <- string(text)
	}()
	<-answering
	stop()
	var events []string
	for lines := bufio.NewScanner(stream.Body); lines.Scan(); {
		if name, ok := strings.CutPrefix(lines.Text(), "event: "); ok {
			events = append(events, name)
		}
	}
	if got := strings.Join(events, " "); got != "hello bye" {
		t.Errorf("the stream had %s", got)
	}
	close(answer)
	if got := <-slow; got != "whole" {
		t.Errorf("the request that was under way got %q", got)
	}
	if err := <-ended; err != nil {
		t.Errorf("Serve returned %v", err)
	}
	if conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", listener.Addr().String()); err == nil {
		conn.Close()
		t.Error("the address is still listened on after Serve")
	}
}

// Without its listener Serve ends, and so does hark.
func TestServeLosesItsListener(t *testing.T) {
	_, listener, _, ended := serve(t, gin.New())
	listener.Close()
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "hark: http: ") {
		t.Errorf("Serve returned %v", err)
	}
}

// The stream at a route of the program listens to the topics that the program names and to those of the request, if the user may.
func TestStreamAtARoute(t *testing.T) {
	srv, err := hark.New(t.Context(), hark.Options{
		Data: t.TempDir(), Auth: byHeader{}, Topics: []jobs.TopicRule{{Topic: "board.*"}}, Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	router := gin.New()
	router.GET("/news/stream", gin.WrapH(srv.Stream("board.1", "_all")))
	router.GET("/secret", gin.WrapH(srv.Stream("secret")))
	site := httptest.NewServer(router)
	defer site.Close()
	open := func(path string) *http.Response {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), "GET", site.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-User", "ana")
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		return res
	}
	refused := func(path string, status int, code string) {
		t.Helper()
		res := open(path)
		defer res.Body.Close()
		if text, _ := io.ReadAll(res.Body); res.StatusCode != status || !strings.Contains(string(text), code) {
			t.Errorf("%s: got %s %s, want %d %s", path, res.Status, text, status, code)
		}
	}
	refused("/news/stream", 503, "starting")
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- srv.Run(ctx) }()
	<-srv.Ready()
	refused("/secret", 403, "topic_forbidden")
	refused("/news/stream?topic=secret", 403, "topic_forbidden")
	res := open("/news/stream?topic=board.2")
	defer res.Body.Close()
	lines := bufio.NewScanner(res.Body)
	for lines.Scan() && lines.Text() != "event: hello" {
	}
	for _, topic := range []string{"board.3", "board.1", "board.2", jobs.TopicAll} {
		if err := srv.Queue().Publish(ctx, jobs.LiveEvent{Topic: topic, Type: "line"}); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for len(got) < 3 && lines.Scan() {
		if data, ok := strings.CutPrefix(lines.Text(), `data: {"topic":`); ok {
			got = append(got, data)
		}
	}
	if want := `"board.1","type":"line"} "board.2","type":"line"} "_all","type":"line"}`; strings.Join(got, " ") != want {
		t.Errorf("got %s, want %s", got, want)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// During the delay before it drains, a server says that it is not ready, and works.
func TestDrainDelay(t *testing.T) {
	t.Parallel()
	const delay = 15 * time.Second
	srv, err := hark.New(t.Context(), hark.Options{
		Data: t.TempDir(), Auth: byHeader{}, Handlers: handlers, DrainDelay: delay, Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- srv.Run(ctx) }()
	<-srv.Ready()
	call := func(method, path, body string) (int, string) {
		t.Helper()
		rec := httptest.NewRecorder()
		req := httptest.NewRequest(method, path, strings.NewReader(body))
		req.Header.Set("X-User", "ana")
		srv.Handler().ServeHTTP(rec, req)
		return rec.Code, rec.Body.String()
	}
	if code, body := call("GET", "/readyz", ""); code != 200 {
		t.Fatalf("before the end: %d %s", code, body)
	}
	begin := time.Now()
	stop()
	polltest.Until(t, "the server is not ready any more", func() bool {
		code, body := call("GET", "/readyz", "")
		return code == 503 && strings.Contains(body, "shutting_down")
	})
	if code, body := call("POST", "/v1/jobs", `{"kind":"hello"}`); code != 202 && time.Since(begin) < delay {
		t.Errorf("a job during the delay: %d %s", code, body)
	}
	if err := <-ended; err != nil || time.Since(begin) < delay {
		t.Errorf("Run ended after %v with %v, want %v", time.Since(begin), err, delay)
	}
	if code, _ := call("POST", "/v1/jobs", `{"kind":"hello"}`); code != 503 {
		t.Errorf("after the end: %d, want 503", code)
	}
}
