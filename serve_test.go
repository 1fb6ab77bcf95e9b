package hark_test

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/gin-gonic/gin"

	"github.com/hark-jobs/hark"
	"github.com/hark-jobs/hark/internal/polltest"
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
