package notifier_test

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/hark-jobs/hark/harktest"
	"github.com/hark-jobs/hark/internal/natstest"
	"github.com/hark-jobs/hark/internal/polltest"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/worker"
)

const siteSecret = "a secret of thirty-two bytes and more"

// claiming returns the header of a call with a token that has these claims, too.
func claiming(t *testing.T, user string, more map[string]any) []string {
	t.Helper()
	claims := jwt.MapClaims{"sub": user, "exp": time.Now().Add(time.Hour).Unix(), "iat": time.Now().Unix()}
	maps.Copy(claims, more)
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString([]byte(siteSecret))
	if err != nil {
		t.Fatal(err)
	}
	return []string{"Authorization", "Bearer " + token}
}

type none struct{}

type mineParams struct {
	Fail bool `json:"fail,omitempty"`
}

// guarded starts a hark with three kinds: one needs the scope reports; one needs the claim tenant and writes it to a
// file; one has an option that needs the scope reports.
func guarded(t *testing.T) *site {
	t.Helper()
	return start(t, harktest.Secret(siteSecret), harktest.Handlers(
		worker.Handle(jobs.Define[none](jobs.Kind{Name: "secret", Allow: []jobs.Rule{{Scope: "reports"}}}), func(context.Context, *worker.Job, none) (jobs.Result, error) { return jobs.Result{}, nil }),
		worker.Handle(jobs.Define[mineParams](jobs.Kind{Name: "mine", Claims: []string{"tenant"}}), func(ctx context.Context, job *worker.Job, p mineParams) (jobs.Result, error) {
			if p.Fail {
				return jobs.Result{}, worker.Fail(&worker.Error{Code: "wanted", Message: "It was wanted."})
			}
			return jobs.Result{}, job.WriteFile(ctx, "mine.txt", "text/plain", func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "%s %v", job.User, job.Claims)
				return err
			})
		}),
		worker.Handle(jobs.Define[map[string]any](jobs.Kind{Name: "choose", Params: []jobs.Param{{Name: "what", Type: jobs.TypeString, Required: true, Options: []jobs.Option{
			{Value: "open"}, {Value: "hidden", Title: "Hidden", Allow: []jobs.Rule{{Scope: "reports"}}}}}}}), func(context.Context, *worker.Job, map[string]any) (jobs.Result, error) { return jobs.Result{}, nil }),
	))
}

// A kind that a user may not use is refused, and neither lists nor error sentences contain it.
func TestForbiddenKinds(t *testing.T) {
	s := guarded(t)
	ana, boss := claiming(t, "ana", nil), claiming(t, "boss", map[string]any{"scope": "reports"})
	s.call("POST", "/v1/jobs", `{"kind":"secret"}`, ana...).problem(403, "kind_forbidden")
	s.call("POST", "/v1/jobs", `{"kind":"secret"}`, boss...).want(202)
	s.call("POST", "/v1/jobs", `{"kind":"choose","params":{"what":"hidden"}}`, ana...).problem(403, "kind_forbidden")
	s.call("POST", "/v1/jobs", `{"kind":"choose","params":{"what":"hidden","what":"open"}}`, ana...).problem(400, "field_duplicate")
	s.call("POST", "/v1/jobs", `{"kind":"choose","params":{"what":"open","what":"hidden"}}`, ana...).problem(400, "field_duplicate")
	s.call("POST", "/v1/jobs", `{"kind":"choose","params":{"what":"hidden"}}`, boss...).want(202)
	for _, body := range []string{`{"kind":"nothing"}`, `{"kind":"choose"}`, `{"kind":"choose","params":{"what":"x"}}`, `{"kind":"choose","params":{"x":1,"what":"open"}}`} {
		a := s.call("POST", "/v1/jobs", body, ana...).want(400)
		if text := string(a.body); strings.Contains(text, "hidden") || strings.Contains(text, "secret") {
			t.Errorf("%s: %s", body, text)
		}
	}
	kinds := func(header []string) string { return string(s.call("GET", "/v1/kinds", "", header...).want(200).body) }
	if text := kinds(ana); strings.Contains(text, "secret") || strings.Contains(text, "hidden") || strings.Contains(text, "mine") || !strings.Contains(text, "choose") {
		t.Errorf("ana sees %s", text)
	}
	if text := kinds(boss); !strings.Contains(text, "secret") || !strings.Contains(text, "Hidden") || strings.Contains(text, "allow") {
		t.Errorf("the boss sees %s", text)
	}
}

// The identity of a job comes from the verified token: the user, and the claims that the kind declares.
func TestIdentityTravels(t *testing.T) {
	s := guarded(t)
	ana := claiming(t, "ana", map[string]any{"tenant": 7, "email": "ana@example.com"})
	s.call("POST", "/v1/jobs", `{"kind":"mine"}`, claiming(t, "ana", nil)...).problem(403, "claim_missing")
	s.call("POST", "/v1/jobs", `{"kind":"mine","claims":{"tenant":8}}`, ana...).problem(400, "field_unknown")
	job := s.end(`{"kind":"mine"}`, ana...)
	if a := s.call("GET", filePath(job), "", ana...).want(200); string(a.body) != "ana map[tenant:7]" {
		t.Errorf("the job got %s", a.body)
	}
	if text := string(s.call("GET", "/v1/jobs/"+job.ID, "", ana...).want(200).body); strings.Contains(text, "tenant") || strings.Contains(text, "example.com") {
		t.Errorf("the job shows claims: %s", text)
	}
}

// A job that its user retries runs with the claims of the user's current token. A job that an admin retries runs with
// the claims that it has.
func TestRetryKeepsTheIdentity(t *testing.T) {
	s := guarded(t)
	as := func(tenant any) []string { return claiming(t, "ana", map[string]any{"tenant": tenant}) }
	job := s.call("POST", "/v1/jobs", `{"kind":"mine","params":{"fail":true}}`, append(as("first"), "Prefer", "wait=30")...).want(200).job()
	tenant := func() any {
		t.Helper()
		snapshot, err := s.Queue.Store().Read(natstest.Context(t), "ana", job.ID)
		if err != nil {
			t.Fatal(err)
		}
		return snapshot.Spec.Claims["tenant"]
	}
	again := func(header []string) answer { return s.call("POST", "/v1/jobs/"+job.ID+"/retry", "", header...) }
	again(claiming(t, "ana", nil)).problem(403, "claim_missing")
	again(claiming(t, "boss", map[string]any{"scope": "admin", "tenant": "of the boss"})).want(200)
	if got := tenant(); got != "first" {
		t.Errorf("retried by an admin it has the tenant %v", got)
	}
	s.failed("ana", job.ID, 2)
	if retried := again(as("second")).want(200).job(); retried.User != "ana" {
		t.Errorf("%+v", retried)
	}
	if got := tenant(); got != "second" {
		t.Errorf("retried by its user it has the tenant %v", got)
	}
}

// failed waits until a run of a job has failed.
func (s *site) failed(user, id string, run int) {
	s.t.Helper()
	polltest.Until(s.t, "the run has failed", func() bool {
		job, err := s.Queue.Store().Get(natstest.Context(s.t), user, id)
		return err == nil && job.Run == run && job.State == jobs.Failed
	})
}

// A service with the scope enqueue can enqueue jobs for users. The jobs have none of the users' claims.
func TestEnqueueForOthers(t *testing.T) {
	s := guarded(t)
	body := `{"kind":"choose","user":"ben","params":{"what":"open"}}`
	s.call("POST", "/v1/jobs", body, claiming(t, "ana", nil)...).problem(403, "scope_missing")
	s.call("POST", "/v1/jobs", body, claiming(t, "ana", map[string]any{"scope": "notify"})...).problem(403, "scope_missing")
	service := claiming(t, "billing", map[string]any{"scope": "enqueue", "tenant": 7})
	job := s.call("POST", "/v1/jobs", body, service...).want(202).job()
	if job.User != "ben" {
		t.Errorf("%+v", job)
	}
	s.call("GET", "/v1/jobs/"+job.ID, "", claiming(t, "ben", nil)...).want(200)
	s.call("GET", "/v1/jobs/"+job.ID, "", service...).want(200)
	s.call("POST", "/v1/jobs", `{"kind":"mine","user":"ben"}`, service...).problem(403, "claim_missing")
	s.call("POST", "/v1/jobs", `{"kind":"mine"}`, service...).want(202)
	s.call("POST", "/v1/jobs", `{"kind":"secret","user":"ben"}`, service...).problem(403, "kind_forbidden")
	s.call("POST", "/v1/jobs", `{"kind":"secret","user":"ben"}`, claiming(t, "billing", map[string]any{"scope": "enqueue reports"})...).want(202)
	s.call("POST", "/v1/jobs", `{"kind":"choose","user":"_all","params":{"what":"open"}}`, service...).want(400)
}

// A user can download a file only while the kind permits it; an admin always can.
func TestDownloadWhileAllowed(t *testing.T) {
	s := guarded(t)
	ana := claiming(t, "ana", map[string]any{"tenant": 7})
	job := s.call("POST", "/v1/jobs", `{"kind":"mine"}`, append(ana, "Prefer", "wait=30")...).want(200).job()
	s.call("GET", filePath(job), "", ana...).want(200)
	s.call("GET", filePath(job), "", claiming(t, "ana", nil)...).problem(403, "claim_missing")
	kind, err := s.Queue.Store().Kind(natstest.Context(t), "mine")
	if err != nil {
		t.Fatal(err)
	}
	closed := *kind
	closed.Allow = []jobs.Rule{{Scope: "reports"}}
	if err := s.Queue.Store().PublishKind(natstest.Context(t), closed); err != nil {
		t.Fatal(err)
	}
	polltest.Until(t, "the rule is known", func() bool { return s.call("GET", filePath(job), "", ana...).StatusCode == 403 })
	s.call("POST", filePath(job)+"/link", "", ana...).problem(403, "kind_forbidden")
	s.call("GET", filePath(job), "", claiming(t, "ana", map[string]any{"tenant": 7, "scope": "reports"})...).want(200)
	s.call("GET", filePath(job), "", claiming(t, "boss", map[string]any{"scope": "admin"})...).want(200)
}

// A link downloads the file of one run, without a token.
func TestFileLink(t *testing.T) {
	s := guarded(t)
	ana := claiming(t, "ana", map[string]any{"tenant": 7})
	job := s.call("POST", "/v1/jobs", `{"kind":"mine"}`, append(ana, "Prefer", "wait=30")...).want(200).job()
	other := s.call("POST", "/v1/jobs", `{"kind":"mine"}`, append(ana, "Prefer", "wait=30")...).want(200).job()
	var link struct {
		URL       string
		ExpiresAt time.Time `json:"expires_at"`
	}
	a := s.call("POST", filePath(job)+"/link", "", ana...).want(201)
	a.into(&link)
	if left := time.Until(link.ExpiresAt); left <= 0 || left > time.Minute || a.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("%+v, %v", link, a.Header)
	}
	if a := s.call("GET", "/"+link.URL, "").want(200); string(a.body) != "ana map[tenant:7]" {
		t.Errorf("%s", a.body)
	}
	if a := s.call("GET", "/"+link.URL, "", "Range", "bytes=0-2").want(206); string(a.body) != "ana" {
		t.Errorf("%s", a.body)
	}
	_, query, _ := strings.Cut(link.URL, "?")
	s.call("GET", filePath(other)+"?"+query, "").problem(401, "link_invalid")
	s.call("GET", filePath(job)+"?link=x", "", ana...).problem(401, "link_invalid")
	s.call("GET", filePath(job), "").problem(401, "token_missing")
	s.call("GET", "/v1/jobs/"+job.ID+"?"+query, "").problem(401, "token_missing")
	s.call("POST", filePath(job)+"/link", "", claiming(t, "ben", map[string]any{"tenant": 7})...).problem(404, "job_not_found")
	s.call("POST", filePath(job)+"/link", "").problem(401, "token_missing")
}

// At the limit of waiting jobs a user's next job is refused, until a job has run or was cancelled. Repeated requests,
// other kinds and other users are not refused.
func TestTooManyWaiting(t *testing.T) {
	release := make(chan struct{})
	s := start(t, harktest.Handlers(worker.Handle(jobs.Define[none](jobs.Kind{Name: "slow"}), func(ctx context.Context, _ *worker.Job, _ none) (jobs.Result, error) {
		select {
		case <-release:
		case <-ctx.Done():
		}
		return jobs.Result{}, nil
	}, worker.Concurrency(2), worker.PerUser(1), worker.MaxWaiting(3))))
	body := `{"kind":"slow"}`
	s.enqueue("ana", body) // counting begins here
	polltest.Until(t, "the first one runs", func() bool {
		page, err := s.Queue.Store().List(natstest.Context(t), "ana", jobs.ListOptions{Limit: 1, States: []jobs.State{jobs.Running}})
		return err == nil && len(page.Jobs) == 1
	})
	var ids []string
	for i := range 3 {
		ids = append(ids, s.enqueue("ana", body, "Idempotency-Key", fmt.Sprint(i)).ID)
	}
	a := s.call("POST", "/v1/jobs", body, s.as("ana")...)
	if p := a.problem(429, "too_many_waiting"); a.Header.Get("Retry-After") == "" || !strings.Contains(p.Detail, "3 jobs") {
		t.Errorf("%v %s", a.Header, a.body)
	}
	if again := s.enqueue("ana", body, "Idempotency-Key", "1"); again.ID != ids[1] {
		t.Errorf("the same request gave %s, and at first %s", again.ID, ids[1])
	}
	s.call("POST", "/v1/jobs", body, append(s.as("ana"), "Idempotency-Key", "new")...).problem(429, "too_many_waiting")
	s.enqueue("ana", nap)
	s.enqueue("ben", body)
	s.call("POST", "/v1/jobs/"+ids[0]+"/cancel", "", s.as("ana")...).want(200)
	ids = append(ids[1:], s.enqueue("ana", body).ID)
	s.call("POST", "/v1/jobs", body, s.as("ana")...).problem(429, "too_many_waiting")
	close(release)
	for _, id := range ids {
		s.inState("ana", id, jobs.Succeeded)
	}
	s.enqueue("ana", body)
}

// Jobs that the log has lost, for instance by their age, do not count as waiting.
func TestLostJobsDoNotWait(t *testing.T) {
	s := start(t, harktest.Handlers(worker.Handle(jobs.Define[none](jobs.Kind{Name: "slow"}), func(ctx context.Context, _ *worker.Job, _ none) (jobs.Result, error) {
		<-ctx.Done()
		return jobs.Result{}, nil
	}, worker.Concurrency(1), worker.MaxWaiting(3))))
	body := `{"kind":"slow"}`
	polltest.Until(t, "no more may wait", func() bool {
		return s.call("POST", "/v1/jobs", body, s.as("ana")...).StatusCode == http.StatusTooManyRequests
	})
	log, err := s.Queue.Store().JetStream().Stream(natstest.Context(t), defaultNS.LogStream())
	if err == nil {
		err = log.Purge(natstest.Context(t), jetstream.WithPurgeSubject(defaultNS.SpecSubject("ana", "*", "*")))
	}
	if err != nil {
		t.Fatal(err)
	}
	polltest.Until(t, "one more may wait", func() bool {
		return s.call("POST", "/v1/jobs", body, s.as("ana")...).StatusCode == http.StatusAccepted
	})
}
