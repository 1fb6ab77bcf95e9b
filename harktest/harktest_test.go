package harktest_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/hark-jobs/hark/harktest"
	"github.com/hark-jobs/hark/jobs"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// What an application's test does: ask for a job, and hear of its end.
func TestStart(t *testing.T) {
	hark := harktest.Start(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	call := func(method, path, body string) *http.Response {
		t.Helper()
		req, err := http.NewRequestWithContext(ctx, method, hark.URL+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+hark.Token("ana"))
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { res.Body.Close(); http.DefaultClient.CloseIdleConnections() })
		return res
	}
	stream := bufio.NewScanner(call("GET", "/v1/stream", "").Body)
	res := call("POST", "/v1/jobs", `{"kind":"sleep","params":{"seconds":0.1},"title":"Nap"}`)
	if res.StatusCode != http.StatusAccepted {
		body, _ := io.ReadAll(res.Body)
		t.Fatal(res.Status, string(body))
	}
	var event string
	for stream.Scan() {
		name, value, _ := strings.Cut(stream.Text(), ": ")
		if name == "event" {
			event = value
		}
		if name == "data" && event == "notification" {
			var n jobs.Notification
			if err := json.Unmarshal([]byte(value), &n); err != nil {
				t.Fatal(err)
			}
			if n.Type != "job.succeeded" || n.Title != "Nap is done" || n.ID == "" {
				t.Errorf("%+v", n)
			}
			return
		}
	}
	t.Fatal("the stream ended", stream.Err())
}
