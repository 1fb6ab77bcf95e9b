package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/cookiejar"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/gin-gonic/gin"

	"github.com/hark-jobs/hark/internal/browsertest"
	"github.com/hark-jobs/hark/internal/exampletest"
)

func TestMain(m *testing.M) {
	gin.SetMode(gin.TestMode)
	os.Exit(m.Run())
}

// start runs the application on a data folder until stop is called or the test ends.
func start(t *testing.T, data string) (base string, stop func()) {
	t.Helper()
	return exampletest.Run(t, "/hark/readyz", func(ctx context.Context, l net.Listener) error {
		return run(ctx, l, data, slog.New(slog.NewTextHandler(t.Output(), nil)))
	})
}

func call(t *testing.T, c *http.Client, method, url string) (status int, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(text)
}

func newVisitor(t *testing.T, base string) *http.Client {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	c := &http.Client{Jar: jar, Transport: new(http.Transport)}
	t.Cleanup(c.CloseIdleConnections)
	call(t, c, "GET", base+"/")
	return c
}

// A like is seen at once in the browsers of all who look, in the right order, and so is one that is taken back. Nobody has
// an unread notification.
func TestLikes(t *testing.T) {
	base, _ := start(t, t.TempDir())
	one, two := browsertest.New(t, browsertest.Options{}).Tab(base), browsertest.New(t, browsertest.Options{}).Tab(base)
	first := func(tab *browsertest.Tab, id, likes int) {
		t.Helper()
		tab.Until(fmt.Sprintf("comment %d is first, with %d likes", id, likes), fmt.Sprintf(
			`(() => { const li = document.querySelector("li"); return li?.dataset.id === "%d" && li.querySelector("button").textContent === "♥ %d" })()`, id, likes))
	}
	first(one, 1, 0)
	first(two, 1, 0)
	one.Click(`li[data-id="3"] button`)
	first(two, 3, 1)
	two.Click(`li[data-id="3"] button`)
	first(one, 3, 2)
	one.Click(`li[data-id="3"] button`)
	first(two, 3, 1)
	two.Click(`li[data-id="3"] button`)
	first(one, 1, 0)
	if _, body := call(t, newVisitor(t, base), "GET", base+"/hark/v1/notifications"); !strings.Contains(body, `"unread":0`) {
		t.Errorf("a new visitor has %s", body)
	}
}

// Many visitors like at the same time, some twice, and half of them take it back: the number is right, also after a restart.
func TestLikesOfMany(t *testing.T) {
	data := t.TempDir()
	base, stop := start(t, data)
	tab := browsertest.New(t, browsertest.Options{}).Tab(base)
	var visitors sync.WaitGroup
	for i := range 40 {
		c := newVisitor(t, base)
		visitors.Go(func() {
			methods := []string{"PUT", "PUT"}
			if i%2 == 1 {
				methods = []string{"PUT", "DELETE", "DELETE"}
			}
			for _, method := range methods {
				req, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), method, base+"/comments/2/like", nil)
				if err != nil {
					t.Error(err)
					return
				}
				res, err := c.Do(req)
				if err != nil {
					t.Error(err)
					return
				}
				res.Body.Close()
				if res.StatusCode != http.StatusOK {
					t.Error(res.Status)
				}
			}
		})
	}
	visitors.Wait()
	tab.Until("the page has 20 likes", `document.querySelector('li[data-id="2"] button')?.textContent === "♥ 20"`)
	stop()
	base, _ = start(t, data)
	if _, body := call(t, newVisitor(t, base), "GET", base+"/comments"); !strings.Contains(body, `{"id":2,"text":"I disagree.","likes":20,`) {
		t.Errorf("after a restart: %s", body)
	}
	if status, _ := call(t, newVisitor(t, base), "PUT", base+"/comments/9/like"); status != http.StatusNotFound {
		t.Errorf("a like of no comment is answered with %d", status)
	}
}
