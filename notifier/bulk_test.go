package notifier_test

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/hark-jobs/hark/harktest"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/worker"
)

type swallowParams struct {
	Text string `json:"text" maxlength:"262144"`
}

// While a user lists jobs with params as large as they may be, ten times at once and again and again, jobs run, other
// users list, and streams hear what is live; and the connections to NATS stay.
func TestListsDoNotDisturb(t *testing.T) {
	swallow := worker.Handle("swallow", func(context.Context, *worker.Job, swallowParams) (jobs.Result, error) { return jobs.Result{}, nil })
	s := start(t, harktest.Handlers(swallow))
	params, err := json.Marshal(map[string]string{"text": strings.Repeat("x", 250_000)})
	if err != nil {
		t.Fatal(err)
	}
	for range 150 {
		if _, _, err := s.Queue.Enqueue(t.Context(), jobs.Request{User: "ana", Kind: "swallow", Params: params}); err != nil {
			t.Fatal(err)
		}
	}
	reader, _ := s.listen("/v1/stream", s.as("bob")...)
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	token := s.as("ana")
	for range 10 {
		all.Go(func() {
			for ctx.Err() == nil {
				res, err := s.http.Do(s.request(ctx, "GET", "/v1/jobs?limit=100", "", token...))
				if err != nil {
					continue
				}
				if res.StatusCode != http.StatusOK {
					t.Error(res.Status)
				}
				res.Body.Close()
			}
		})
	}
	for range 20 {
		job := s.finish("bob", nap)
		if e := reader.until("notification"); !strings.Contains(e.data, job.ID) {
			t.Errorf("heard %s", e.data)
		}
		s.call("GET", "/v1/jobs", "", s.as("bob")...).want(200)
		s.call("GET", "/v1/jobs/"+job.ID, "", s.as("bob")...).want(200)
	}
	cancel()
	all.Wait()
	if a, b := s.Queue.Conn().Stats().Reconnects, s.Queue.Bulk().Stats().Reconnects; a+b > 0 {
		t.Errorf("connections were lost: %d, %d", a, b)
	}
}

// A user may have eight downloads at a time; others are served meanwhile.
func TestDownloadsOfOneUserAreBounded(t *testing.T) {
	s := start(t, harktest.Handlers(large))
	job := s.finish("ana", `{"kind":"large"}`)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var open []*http.Response
	for range 8 { // 24 MiB do not fit into the buffers of a connection
		res := s.open(ctx, "GET", job.File.URL, "", s.as("ana")...)
		if res.StatusCode != http.StatusOK {
			t.Fatal(res.Status)
		}
		open = append(open, res)
	}
	refused := s.call("GET", job.File.URL, "", s.as("ana")...)
	if refused.problem(429, "too_many_downloads"); refused.Header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	s.call("GET", job.File.URL, "", append(s.as("root", "admin"), "Range", "bytes=0-7")...).want(206)
	cancel()
	for _, res := range open {
		res.Body.Close()
	}
	until(t, "a place is free again", func() bool {
		res := s.open(t.Context(), "HEAD", job.File.URL, "", s.as("ana")...)
		defer res.Body.Close()
		return res.StatusCode == http.StatusOK
	})
}
