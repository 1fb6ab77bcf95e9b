package notifier_test

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/hark-jobs/hark/harktest"
	"github.com/hark-jobs/hark/internal/natstest"
	"github.com/hark-jobs/hark/internal/polltest"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/worker"
)

type swallowParams struct {
	Text string `json:"text" maxlength:"262144"`
}

// While a user lists jobs with the largest params, ten requests at a time, jobs run, other users list, streams get live
// events, and the connections to NATS stay open.
func TestListsDoNotDisturb(t *testing.T) {
	swallow := worker.Handle(jobs.Define[swallowParams](jobs.Kind{Name: "swallow"}), func(context.Context, *worker.Job, swallowParams) (jobs.Result, error) { return jobs.Result{}, nil })
	s := start(t, harktest.Handlers(swallow))
	params, err := json.Marshal(map[string]string{"text": strings.Repeat("x", 250_000)})
	if err != nil {
		t.Fatal(err)
	}
	for range 50 { // more than a list reads at a time, which is 8 MiB
		if _, _, err := s.Queue.Store().Enqueue(natstest.Context(t), jobs.Request{User: "ana", Kind: "swallow", Params: params}); err != nil {
			t.Fatal(err)
		}
	}
	reader, _ := s.listen("/v1/stream", s.as("bob")...)
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	var listed atomic.Int64
	token := s.as("ana")
	for range 10 {
		all.Go(func() {
			for ctx.Err() == nil {
				// Five MB of params. On a slow machine ten such lists of one user may take longer than a request may: then they are
				// refused, and the others must not notice.
				res, err := s.http.Do(s.request(ctx, "GET", "/v1/jobs?limit=20", "", token...))
				if err != nil {
					continue
				}
				switch res.StatusCode {
				case http.StatusOK:
					listed.Add(1)
				case http.StatusServiceUnavailable:
				default:
					t.Error(res.Status)
				}
				res.Body.Close()
			}
		})
	}
	for range 5 {
		job := s.finish("bob", nap)
		if e := reader.until("notification"); !strings.Contains(e.data, job.ID) {
			t.Errorf("received %s", e.data)
		}
		s.call("GET", "/v1/jobs", "", s.as("bob")...).want(200)
		s.call("GET", "/v1/jobs/"+job.ID, "", s.as("bob")...).want(200)
	}
	polltest.Until(t, "the lists are answered", func() bool { return listed.Load() > 0 })
	cancel()
	all.Wait()
	if a, b := s.Queue.Store().Conn().Stats().Reconnects, s.Queue.Store().Bulk().Stats().Reconnects; a+b > 0 {
		t.Errorf("connections were lost: %d, %d", a, b)
	}
}

// A user may have eight downloads at a time. Meanwhile other users can download.
func TestDownloadsOfOneUserAreBounded(t *testing.T) {
	s := start(t, harktest.Handlers(large))
	job := s.finish("ana", `{"kind":"large"}`)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var open []*http.Response
	for range 8 { // 24 MiB do not fit into the buffers of a connection
		res := s.open(ctx, "GET", filePath(job), "", s.as("ana")...)
		if res.StatusCode != http.StatusOK {
			t.Fatal(res.Status)
		}
		open = append(open, res)
	}
	refused := s.call("GET", filePath(job), "", s.as("ana")...)
	if refused.problem(429, "too_many_downloads"); refused.Header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	s.call("GET", filePath(job), "", append(s.as("root", "admin"), "Range", "bytes=0-7")...).want(206)
	cancel()
	for _, res := range open {
		res.Body.Close()
	}
	polltest.Until(t, "a place is free again", func() bool {
		res := s.open(t.Context(), "HEAD", filePath(job), "", s.as("ana")...)
		defer res.Body.Close()
		return res.StatusCode == http.StatusOK
	})
}
