package notifier_test

import (
	"context"
	"encoding/json"
	"maps"
	"strings"
	"testing"

	"github.com/hark-jobs/hark/harktest"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/worker"
)

// The metadata of a job reaches its handler, and stays with the job when it is retried. A repeated idempotency key may
// have other metadata.
func TestMetadata(t *testing.T) {
	s := start(t, harktest.Handlers(worker.Handle(jobs.Define[none](jobs.Kind{Name: "tenant", MaxAttempts: 1}),
		func(_ context.Context, job *worker.Job, _ none) (jobs.Result, error) {
			return jobs.Result{Value: job.Metadata}, worker.Fail(&worker.Error{Code: job.Metadata["tenant"], Message: "It failed."})
		})))
	want := map[string]string{"tenant": "t1", "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
	body := `{"kind":"tenant","metadata":{"tenant":"t1","traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}}`
	key := append(s.as("ana"), "Idempotency-Key", "once")
	job := s.call("POST", "/v1/jobs", body, key...).want(202).job()
	if !maps.Equal(job.Metadata, want) {
		t.Errorf("enqueued: got %v, want %v", job.Metadata, want)
	}
	check := func(run int) {
		t.Helper()
		end := s.inState("ana", job.ID, jobs.Failed)
		if end.Run != run || !maps.Equal(end.Metadata, want) || end.Error.Code != "t1" {
			t.Errorf("run %d: got run %d with %v and the error %+v, want %v", run, end.Run, end.Metadata, end.Error, want)
		}
	}
	check(1)
	again := s.call("POST", "/v1/jobs", strings.Replace(body, "b7ad6b7169203331", "00f067aa0ba902b7", 1), key...).want(202).job()
	if again.ID != job.ID {
		t.Errorf("the same request in another trace made the job %s, want %s", again.ID, job.ID)
	}
	s.call("POST", "/v1/jobs/"+job.ID+"/retry", "", s.as("ana")...).want(200)
	check(2)
}

// Metadata that is too large, or has an invalid name, is refused with a sentence that has the name.
func TestBadMetadata(t *testing.T) {
	s := start(t)
	many := make(map[string]string)
	for i := range 17 {
		many[strings.Repeat("n", i+1)] = "v"
	}
	for name, metadata := range map[string]any{
		"17 names":      many,
		"a long name":   map[string]string{strings.Repeat("n", 65): "v"},
		"no name":       map[string]string{"": "v"},
		"a bad name":    map[string]string{"a b": "v"},
		"a long value":  map[string]string{"n": strings.Repeat("v", 513)},
		"a number":      map[string]int{"n": 1},
		"not an object": []string{"n"},
	} {
		body, err := json.Marshal(map[string]any{"kind": "sleep", "metadata": metadata})
		if err != nil {
			t.Fatal(err)
		}
		if a := s.call("POST", "/v1/jobs", string(body), s.as("ana")...).want(400); !strings.Contains(string(a.body), "metadata") {
			t.Errorf("%s: %s", name, a.body)
		}
	}
}
