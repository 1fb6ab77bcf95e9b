package notifier_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hark-jobs/hark/harktest"
	"github.com/hark-jobs/hark/internal/health"
	"github.com/hark-jobs/hark/internal/joblog"
	"github.com/hark-jobs/hark/internal/natstest"
	"github.com/hark-jobs/hark/internal/polltest"
	"github.com/hark-jobs/hark/jobs"
)

const defaultNS = joblog.DefaultNamespace

func TestMain(m *testing.M) { natstest.VerifyTestMain(m) }

// patience is how long a test waits for something that should come without delay.
const patience = time.Minute

// site is a running hark with an HTTP client of its own.
type site struct {
	*harktest.Hark
	t     testing.TB
	http  *http.Client
	codes []string // the codes of problems in openapi.json
}

func start(t testing.TB, options ...harktest.Option) *site {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 8}}
	t.Cleanup(client.CloseIdleConnections)
	quiet := harktest.Log(slog.New(slog.DiscardHandler))
	s := &site{t: t, http: client, Hark: harktest.Start(t, append([]harktest.Option{quiet}, options...)...)}
	var spec struct {
		Components struct {
			Schemas map[string]struct {
				Properties map[string]struct {
					Enum []string `json:"enum"`
				} `json:"properties"`
			} `json:"schemas"`
		} `json:"components"`
	}
	s.call("GET", "/openapi.json", "").into(&spec)
	s.codes = spec.Components.Schemas["Problem"].Properties["code"].Enum
	return s
}

// as returns the header that authenticates a call as user.
func (s *site) as(user string, scopes ...string) []string {
	return []string{"Authorization", "Bearer " + s.Token(user, scopes...)}
}

// answer is a response, read to its end.
type answer struct {
	*http.Response
	body []byte
	t    testing.TB
	call string
}

type problem struct {
	Type, Title, Code, Detail, Field, Topic string
	Status                                  int
	SignIn                                  string `json:"sign_in"`
	SignInURL                               string `json:"sign_in_url"`
	RequestID                               string `json:"request_id"`
}

// call sends a request, with headers as alternating names and values, and checks what holds for every response.
func (s *site) call(method, path, body string, headers ...string) answer {
	s.t.Helper()
	res := s.open(s.t.Context(), method, path, body, headers...)
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	if err != nil {
		s.t.Fatalf("%s %s: %v", method, path, err)
	}
	a := answer{res, data, s.t, method + " " + path}
	if res.Header.Get("X-Request-Id") == "" && !health.Answers(path) || res.Header.Get("X-Content-Type-Options") != "nosniff" {
		s.t.Errorf("%s: lacks the headers that all answers have: %v", a.call, res.Header)
	}
	if strings.HasPrefix(path, "/v1/") && !strings.Contains(res.Header.Get("Cache-Control"), "no-") {
		s.t.Errorf("%s: may be cached", a.call)
	}
	if res.StatusCode >= 400 && method != "HEAD" {
		s.checkProblem(a)
	}
	return a
}

// checkProblem checks what holds for every problem.
func (s *site) checkProblem(a answer) {
	s.t.Helper()
	var p problem
	dec := json.NewDecoder(bytes.NewReader(a.body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&p); err != nil || a.Header.Get("Content-Type") != "application/problem+json" {
		s.t.Fatalf("%s: %s, not a problem (%v): %s %s", a.call, a.Status, err, a.Header.Get("Content-Type"), a.body)
	}
	if p.Status != a.StatusCode || p.Type != "about:blank" || p.Title != http.StatusText(p.Status) || p.RequestID != a.Header.Get("X-Request-Id") {
		s.t.Errorf("%s: %s", a.call, a.body)
	}
	if !strings.HasSuffix(p.Detail, ".") || strings.Contains(p.Detail, ".go:") || strings.Contains(p.Detail, "goroutine") ||
		strings.Contains(p.Detail, "json:") || len(p.Detail) > 400 {
		s.t.Errorf("%s: not a sentence for people: %s", a.call, p.Detail)
	}
	if !slices.Contains(s.codes, p.Code) {
		s.t.Errorf("%s: openapi.json does not know the code %q", a.call, p.Code)
	}
	if (p.Status == 401) != (a.Header.Get("WWW-Authenticate") != "") {
		s.t.Errorf("%s: %d with WWW-Authenticate %q", a.call, p.Status, a.Header.Get("WWW-Authenticate"))
	}
}

func (s *site) request(ctx context.Context, method, path, body string, headers ...string) *http.Request {
	s.t.Helper()
	req, err := http.NewRequestWithContext(ctx, method, s.URL+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	return req
}

// open sends a request and returns the response with its body unread.
func (s *site) open(ctx context.Context, method, path, body string, headers ...string) *http.Response {
	s.t.Helper()
	// Redirects are not followed, so that tests see them.
	client := *s.http
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	res, err := client.Do(s.request(ctx, method, path, body, headers...))
	if err != nil {
		s.t.Fatalf("%s %s: %v", method, path, err)
	}
	return res
}

func (a answer) want(status int) answer {
	a.t.Helper()
	if a.StatusCode != status {
		a.t.Fatalf("%s: %s, want %d: %.500s", a.call, a.Status, status, a.body)
	}
	return a
}

func (a answer) into(v any) {
	a.t.Helper()
	if a.StatusCode/100 != 2 {
		a.t.Fatalf("%s: %s: %.500s", a.call, a.Status, a.body)
	}
	if err := json.Unmarshal(a.body, v); err != nil {
		a.t.Fatalf("%s: %v: %.500s", a.call, err, a.body)
	}
}

func (a answer) job() (job jobs.Job) {
	a.t.Helper()
	a.into(&job)
	return job
}

// problem expects a problem with this status and code.
func (a answer) problem(status int, code string) (p problem) {
	a.t.Helper()
	if err := json.Unmarshal(a.body, &p); err != nil || a.StatusCode != status || p.Code != code {
		a.t.Errorf("%s: %s, want %d %s: %.500s", a.call, a.Status, status, code, a.body)
	}
	return p
}

// enqueue enqueues a job and returns the job of the response.
func (s *site) enqueue(user, body string, headers ...string) jobs.Job {
	s.t.Helper()
	return s.call("POST", "/v1/jobs", body, append(s.as(user), headers...)...).job()
}

// finish enqueues a job and waits for its end.
func (s *site) finish(user, body string) jobs.Job {
	s.t.Helper()
	return s.end(body, s.as(user)...)
}

// end enqueues a job and waits for its end, for longer than one request can wait.
func (s *site) end(body string, headers ...string) (job jobs.Job) {
	s.t.Helper()
	job = s.call("POST", "/v1/jobs", body, headers...).want(202).job()
	polltest.Until(s.t, "the job has ended", func() bool {
		job = s.call("GET", "/v1/jobs/"+job.ID, "", headers...).want(200).job()
		return job.State.Terminal()
	})
	return job
}

// inState waits until a job has a state.
func (s *site) inState(user, id string, state jobs.State) (job jobs.Job) {
	s.t.Helper()
	polltest.Until(s.t, "the job is "+string(state), func() bool {
		job = s.call("GET", "/v1/jobs/"+id, "", s.as(user)...).job()
		return job.State == state
	})
	return job
}
