package notifier_test

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hark-jobs/hark/client"
	"github.com/hark-jobs/hark/harktest"
	"github.com/hark-jobs/hark/internal/natstest"
	"github.com/hark-jobs/hark/internal/polltest"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/worker"
)

const nap = `{"kind":"sleep","title":"Nap","params":{"seconds":0.01}}`

func TestJob(t *testing.T) {
	s := start(t)
	a := s.call("POST", "/v1/jobs", nap, s.as("ana")...).want(202)
	job := a.job()
	if a.Header.Get("Location") != "jobs/"+job.ID || job.State != jobs.Queued || job.User != "ana" || job.Title != "Nap" ||
		job.Kind != "sleep" || job.Run != 1 || job.Revision == 0 || job.CreatedAt.Location() != time.UTC {
		t.Errorf("%v %+v", a.Header, job)
	}
	end := s.inState("ana", job.ID, jobs.Succeeded)
	if end.Revision <= job.Revision || end.FinishedAt.IsZero() || end.StartedAt.IsZero() || end.Attempt != 1 || end.Worker != "" {
		t.Errorf("%+v", end)
	}
	// Without a title and max_attempts a job has those of its kind.
	if job := s.enqueue("ana", `{"kind":"sleep","params":{"seconds":0}}`); job.Title != "Sleep" || job.MaxAttempts != 3 {
		t.Errorf("%+v", job)
	}
}

func TestKinds(t *testing.T) {
	s := start(t, harktest.Export(""))
	api, err := client.New(client.Options{URL: s.URL, Token: s.Token("ana"), HTTPClient: s.http})
	if err != nil {
		t.Fatal(err)
	}
	kinds, err := api.Kinds(t.Context())
	if err != nil || len(kinds) != 2 || kinds[0].Name != "export" || kinds[1].Name != "sleep" {
		t.Fatalf("%+v, %v", kinds, err)
	}
	if p := kinds[0].Params[0]; p.Name != "dataset" || !p.Required || len(p.Options) == 0 || p.Options[0].Params[0].Type != jobs.TypeDate {
		t.Errorf("%+v", p)
	}
}

func TestPreferWait(t *testing.T) {
	s := start(t)
	for _, c := range []struct {
		prefer, body string
		status       int
		applied      string
	}{
		{"wait=30", nap, 200, "wait=30"},
		{"respond-async, wait=999999999999", nap, 200, "wait=60"},
		{"wait=1", `{"kind":"sleep","params":{"seconds":600}}`, 202, "wait=1"},
		{"wait=0", nap, 202, ""},
		{"return=minimal", nap, 202, ""},
	} {
		a := s.call("POST", "/v1/jobs", c.body, append(s.as("ana"), "Prefer", c.prefer)...).want(c.status)
		if job := a.job(); a.Header.Get("Preference-Applied") != c.applied || a.Header.Get("Location") != "jobs/"+job.ID ||
			(c.status == 200) != (job.State == jobs.Succeeded) {
			t.Errorf("%s: %v %+v", c.prefer, a.Header, job)
		}
	}
}

func TestIdempotencyKey(t *testing.T) {
	s := start(t)
	key := []string{"Idempotency-Key", "order 7/ü\""}
	first := s.finish2("ana", nap, key...)
	same := func(when string) {
		t.Helper()
		again := s.enqueue("ana", nap, key...)
		if again.ID != first.ID || again.State != jobs.Succeeded {
			t.Errorf("%s: %+v", when, again)
		}
		for _, other := range []string{`{"kind":"sleep","title":"Nap","params":{"seconds":2}}`, `{"kind":"sleep","params":{"seconds":0.01}}`} {
			s.call("POST", "/v1/jobs", other, append(s.as("ana"), key...)...).problem(409, "key_reused")
		}
	}
	same("at once")
	if bobs := s.enqueue("bob", nap, key...); bobs.ID == first.ID {
		t.Error("another user's key is another key")
	}
	s.Restart()
	same("after a restart")
	var list struct{ Jobs []jobs.Job }
	if s.call("GET", "/v1/jobs", "", s.as("ana")...).into(&list); len(list.Jobs) != 1 {
		t.Errorf("%+v", list.Jobs)
	}
}

// finish2 is finish with headers.
func (s *site) finish2(user, body string, headers ...string) jobs.Job {
	s.t.Helper()
	return s.end(body, slices.Concat(s.as(user), headers)...)
}

func TestCancelAndRetry(t *testing.T) {
	held := worker.Handle(jobs.Define[struct{}](jobs.Kind{Name: "held"}), func(ctx context.Context, _ *worker.Job, _ struct{}) (jobs.Result, error) {
		<-ctx.Done()
		return jobs.Result{}, context.Cause(ctx)
	}, worker.Concurrency(1))
	s := start(t, harktest.Handlers(held))
	do := func(id, verb string) answer {
		t.Helper()
		return s.call("POST", "/v1/jobs/"+id+"/"+verb, "", s.as("ana")...)
	}
	running := s.enqueue("ana", `{"kind":"held"}`)
	s.inState("ana", running.ID, jobs.Running)
	waiting := s.enqueue("ana", `{"kind":"held"}`) // the worker runs one job at a time
	do(waiting.ID, "retry").problem(409, "job_not_ended")
	if job := do(waiting.ID, "cancel").want(200).job(); job.State != jobs.Cancelled || job.Error == nil {
		t.Errorf("%+v", job)
	}
	do(waiting.ID, "cancel").problem(409, "job_ended")
	if job := do(running.ID, "cancel").want(200).job(); job.State == jobs.Running && !job.CancelRequested {
		t.Errorf("%+v", job)
	}
	s.inState("ana", running.ID, jobs.Cancelled)
	if job := do(running.ID, "retry").want(200).job(); job.State != jobs.Queued || job.Run != 2 || job.Attempt != 0 || job.Revision == 0 {
		t.Errorf("%+v", job)
	}
	s.inState("ana", running.ID, jobs.Running)
	do(running.ID, "cancel").want(200)
	s.inState("ana", running.ID, jobs.Cancelled)
	done := s.finish("ana", nap)
	do(done.ID, "retry").problem(409, "job_not_ended")
	do(done.ID, "cancel").problem(409, "job_ended")
	failed := s.finish("ana", `{"kind":"sleep","params":{"seconds":0,"fail":true},"max_attempts":1}`)
	if failed.State != jobs.Failed || failed.Error.Code != "asked_to_fail" {
		t.Errorf("%+v", failed)
	}
	if job := do(failed.ID, "retry").want(200).job(); job.Run != 2 || job.Error != nil {
		t.Errorf("%+v", job)
	}
}

func TestJobList(t *testing.T) {
	s := start(t)
	var want []string
	for range 7 {
		want = append(want, s.finish("ana", nap).ID)
	}
	failed := s.finish("ana", `{"kind":"sleep","params":{"seconds":0,"fail":true},"max_attempts":1}`)
	want = append(want, failed.ID)
	slices.Reverse(want)
	s.finish("bob", nap)

	var got []string
	for after := ""; ; {
		var page struct {
			Jobs []jobs.Job
			Next *string
		}
		s.call("GET", "/v1/jobs?limit=3&after="+after, "", s.as("ana")...).into(&page)
		for _, job := range page.Jobs {
			got = append(got, job.ID)
		}
		if page.Next == nil {
			break
		}
		after = *page.Next
	}
	if !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	for query, n := range map[string]int{"state=failed": 1, "state=failed,succeeded": 8, "state=queued": 0, "limit=2": 2, "": 8, "user=ana": 8} {
		var page struct{ Jobs []jobs.Job }
		if s.call("GET", "/v1/jobs?"+query, "", s.as("ana")...).into(&page); len(page.Jobs) != n || page.Jobs == nil {
			t.Errorf("%s: %d jobs, want %d", query, len(page.Jobs), n)
		}
	}
}

// Other users get the same response for the job as for one that does not exist.
func TestOthersJobs(t *testing.T) {
	s := start(t)
	done := s.finish("ana", nap)
	running := s.enqueue("ana", `{"kind":"sleep","params":{"seconds":600}}`)
	const none = "01JD3QF4X5S7H8J9K0M1N2P3R4"
	requestID := func(a answer) string {
		return strings.ReplaceAll(string(a.body), a.Header.Get("X-Request-Id"), "")
	}
	for _, c := range []string{"GET /", "GET /file", "POST /cancel", "POST /retry"} {
		method, verb, _ := strings.Cut(c, " ")
		verb = strings.TrimSuffix(verb, "/")
		missing := s.call(method, "/v1/jobs/"+none+verb, "", s.as("bob", "notify")...).want(404)
		for _, id := range []string{done.ID, running.ID} {
			if a := s.call(method, "/v1/jobs/"+id+verb, "", s.as("bob", "notify")...).want(404); requestID(a) != requestID(missing) {
				t.Errorf("%s: %s, and %s", c, a.body, missing.body)
			}
		}
	}
	if job := s.call("GET", "/v1/jobs/"+running.ID, "", s.as("ana")...).job(); job.State.Terminal() || job.CancelRequested {
		t.Errorf("somebody else did something to %+v", job)
	}
	// An admin can see and change it.
	if job := s.call("GET", "/v1/jobs/"+done.ID, "", s.as("root", "admin")...).job(); job.User != "ana" {
		t.Errorf("%+v", job)
	}
	s.call("GET", "/v1/jobs/"+none, "", s.as("root", "admin")...).problem(404, "job_not_found")
	s.call("GET", "/v1/jobs/"+done.ID+"/file", "", s.as("root", "admin")...).problem(404, "file_missing")
	var page struct{ Jobs []jobs.Job }
	if s.call("GET", "/v1/jobs?user=ana", "", s.as("root", "admin")...).into(&page); len(page.Jobs) != 2 {
		t.Errorf("%+v", page)
	}
	if s.call("GET", "/v1/jobs?everyone=true", "", s.as("root", "admin")...).into(&page); len(page.Jobs) < 2 || page.Jobs[0].User == "root" {
		t.Errorf("everyone's jobs: %+v", page.Jobs)
	}
	s.call("GET", "/v1/jobs?everyone=true", "", s.as("bob")...).problem(403, "scope_missing")
	s.call("POST", "/v1/jobs/"+running.ID+"/cancel", "", s.as("root", "admin")...).want(200)
	s.inState("ana", running.ID, jobs.Cancelled)
}

// The job of a client that disconnects while it waits still runs.
func TestClientGoesAway(t *testing.T) {
	s := start(t)
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, "POST", s.URL+"/v1/jobs", strings.NewReader(`{"kind":"sleep","params":{"seconds":600}}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+s.Token("ana"))
	req.Header.Set("Prefer", "wait=60")
	gone := make(chan error, 1)
	go func() {
		res, err := s.http.Do(req)
		if err == nil {
			res.Body.Close()
		}
		gone <- err
	}()
	polltest.Until(t, "the job is there", func() bool {
		page, err := s.Queue.Store().List(natstest.Context(t), "ana", jobs.ListOptions{Limit: 1})
		return err == nil && len(page.Jobs) == 1
	})
	cancel()
	if <-gone == nil {
		t.Error("the call returned before its time")
	}
	var page struct{ Jobs []json.RawMessage }
	if s.call("GET", "/v1/jobs", "", s.as("ana")...).into(&page); len(page.Jobs) != 1 {
		t.Errorf("%s", page.Jobs)
	}
}
