package joblog_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/hark-jobs/hark/internal/joblog"
	"github.com/hark-jobs/hark/internal/natstest"
	"github.com/hark-jobs/hark/jobs"
)

// guarded is a kind with a rule for one option, a claim for another, and none for a third.
var guarded = jobs.Kind{
	Name: "export", Title: "Export", MaxAttempts: 1,
	Params: []jobs.Param{{Name: "dataset", Type: jobs.TypeString, Required: true, Options: []jobs.Option{
		{Value: "open"},
		{Value: "secret", Allow: []jobs.Rule{{Scope: "reports"}, {Claims: map[string][]string{"department": {"sales", "7"}}}}},
		{Value: "own", Claims: []string{"customer"}},
		{Value: "both", Allow: []jobs.Rule{{Scope: "reports", Claims: map[string][]string{"department": {"sales"}}}}},
	}}},
}

func claims(t *testing.T, text string) map[string]any {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(text))
	dec.UseNumber()
	var all map[string]any
	if err := dec.Decode(&all); err != nil {
		t.Fatal(err)
	}
	return all
}

func TestPermit(t *testing.T) {
	for _, c := range []struct {
		scopes  []string
		claims  string
		dataset string
		code    string // "" if it is permitted
	}{
		{nil, `{}`, "open", ""},
		{nil, `{}`, "secret", "kind_forbidden"},
		{[]string{"admin", "report"}, `{}`, "secret", "kind_forbidden"},
		{[]string{"reports"}, `{}`, "secret", ""},
		{nil, `{"department":"sales"}`, "secret", ""},
		{nil, `{"department":["hr","sales"]}`, "secret", ""},
		{nil, `{"department":7}`, "secret", ""},
		{nil, `{"department":"Sales"}`, "secret", "kind_forbidden"},
		{nil, `{"Department":"sales"}`, "secret", "kind_forbidden"},
		{nil, `{"department":{"sales":true}}`, "secret", "kind_forbidden"},
		{nil, `{"department":[["sales"]]}`, "secret", "kind_forbidden"},
		{nil, `{"department":null}`, "secret", "kind_forbidden"},
		{nil, `{}`, "own", "claim_missing"},
		{nil, `{"customer":null}`, "own", "claim_missing"},
		{nil, `{"customer":0}`, "own", ""},
		{[]string{"reports"}, `{}`, "both", "kind_forbidden"},
		{nil, `{"department":"sales"}`, "both", "kind_forbidden"},
		{[]string{"reports"}, `{"department":"sales"}`, "both", ""},
	} {
		g := jobs.Grant{Scopes: c.scopes, Claims: claims(t, c.claims)}
		err := guarded.Permit(g, json.RawMessage(`{"dataset":"`+c.dataset+`"}`))
		var forbidden *jobs.ForbiddenError
		if errors.As(err, &forbidden); (err == nil) != (c.code == "") || err != nil && (forbidden == nil || forbidden.Code != c.code) {
			t.Errorf("%v %s %s: %v, want %q", c.scopes, c.claims, c.dataset, err, c.code)
		}
		// What may not be enqueued is not listed either.
		seen, ok := guarded.For(g)
		listed := false
		if ok {
			for _, o := range seen.Params[0].Options {
				listed = listed || o.Value == c.dataset
				if o.Allow != nil || o.Claims != nil {
					t.Errorf("%v shows its rules", o.Value)
				}
			}
		}
		if listed != (c.code == "") {
			t.Errorf("%v %s: %s is listed: %v", c.scopes, c.claims, c.dataset, listed)
		}
	}
}

// A rule of the kind itself hides all of it. So does one for each of its options.
func TestKindForbidden(t *testing.T) {
	kind := jobs.Kind{Name: "report", Allow: []jobs.Rule{{Scope: "reports"}}, Claims: []string{"tenant"}}
	for _, c := range []struct {
		grant jobs.Grant
		code  string
	}{
		{jobs.Grant{}, "kind_forbidden"},
		{jobs.Grant{Scopes: []string{"reports"}}, "claim_missing"},
		{jobs.Grant{Scopes: []string{"reports"}, Claims: map[string]any{"tenant": "a"}}, ""},
	} {
		err := kind.Permit(c.grant, nil)
		var forbidden *jobs.ForbiddenError
		if errors.As(err, &forbidden); (err == nil) != (c.code == "") || err != nil && forbidden.Code != c.code {
			t.Errorf("%+v: %v, want %q", c.grant, err, c.code)
		}
		if seen, ok := kind.For(c.grant); ok != (c.code == "") || seen.Allow != nil || seen.Claims != nil {
			t.Errorf("%+v: seen %v, %+v", c.grant, ok, seen)
		}
	}
	only := jobs.Kind{Name: "export", Params: []jobs.Param{{Name: "dataset", Options: []jobs.Option{{Value: "a", Allow: []jobs.Rule{{Scope: "x"}}}}}}}
	if _, ok := only.For(jobs.Grant{}); ok {
		t.Error("a kind of which nothing is left is listed")
	}
}

// A param given twice is not checked as one and used as the other.
func TestPermitDuplicateParam(t *testing.T) {
	for _, params := range []string{`{"dataset":"open","dataset":"secret"}`, `{"dataset":"secret","dataset":"open"}`, `{"dataset":"secret","Dataset":"open"}`} {
		if err := guarded.Permit(jobs.Grant{}, json.RawMessage(params)); err == nil {
			t.Errorf("%s is permitted", params)
		}
	}
	if checked, err := guarded.Check(json.RawMessage(`{"dataset":"secret","dataset":"open"}`)); err == nil {
		t.Errorf("it is used as %s", checked)
	}
}

// Only declared claims are stored with the job, exactly as they were, and a retry keeps them.
func TestClaimsAreStored(t *testing.T) {
	q, err := joblog.Open(natstest.Context(t), natstest.Connect(t), joblog.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := q.PublishKind(natstest.Context(t), guarded); err != nil {
		t.Fatal(err)
	}
	enqueue := func(dataset string) *joblog.Snapshot {
		t.Helper()
		job, _, err := q.Enqueue(natstest.Context(t), jobs.Request{User: "ana", Kind: "export", Params: json.RawMessage(`{"dataset":"` + dataset + `"}`),
			Claims: claims(t, `{"customer":9007199254740993,"email":"ana@example.com"}`)})
		if err != nil {
			t.Fatal(err)
		}
		s, err := q.Read(natstest.Context(t), "ana", job.ID)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	if s := enqueue("open"); len(s.Spec.Claims) != 0 {
		t.Errorf("without a declaration it has %v", s.Spec.Claims)
	}
	s := enqueue("own")
	check := func(s *joblog.Snapshot) {
		t.Helper()
		if len(s.Spec.Claims) != 1 || s.Spec.Claims["customer"] != json.Number("9007199254740993") {
			t.Errorf("it has %v", s.Spec.Claims)
		}
	}
	check(s)
	if _, err := q.Cancel(natstest.Context(t), "ana", s.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := q.Retry(natstest.Context(t), "ana", s.ID, nil); err != nil {
		t.Fatal(err)
	}
	again, err := q.Read(natstest.Context(t), "ana", s.ID)
	if err != nil || again.Spec.Run != 2 {
		t.Fatalf("%+v, %v", again, err)
	}
	check(again)
}
