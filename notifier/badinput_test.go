package notifier_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/hark-jobs/hark/harktest"
)

// Bad input gets one clear problem and changes nothing.
func TestBadInput(t *testing.T) {
	s := start(t, harktest.Export(""))
	ana := s.as("ana", "notify")
	big := `{"kind":"sleep","title":"` + strings.Repeat("x", 1<<20) + `"}`
	const someJob, someNote = "01JD3QF4X5S7H8J9K0M1N2P3R4", "m3x0abcd-999999"
	for name, c := range map[string]struct {
		call, body string
		status     int
		code       string
		field      string
		says       string // part of the detail
	}{
		"kind unknown":        {"POST /v1/jobs", `{"kind":"nope"}`, 400, "kind_unknown", "kind", "export, sleep"},
		"kind of wildcards":   {"POST /v1/jobs", `{"kind":"*"}`, 400, "invalid_request", "kind", "a-z"},
		"kind of subjects":    {"POST /v1/jobs", `{"kind":"sleep.>"}`, 400, "invalid_request", "kind", "a-z"},
		"kind missing":        {"POST /v1/jobs", `{}`, 400, "invalid_request", "kind", ""},
		"kind a number":       {"POST /v1/jobs", `{"kind":7}`, 400, "field_invalid", "kind", "must be a string"},
		"dataset unknown":     {"POST /v1/jobs", `{"kind":"export","params":{"dataset":"salaries"}}`, 400, "param_invalid", "params.dataset", "orders"},
		"dataset missing":     {"POST /v1/jobs", `{"kind":"export","params":{}}`, 400, "param_missing", "params.dataset", "orders"},
		"param unknown":       {"POST /v1/jobs", `{"kind":"export","params":{"dataset":"orders","form":1}}`, 400, "param_unknown", "params.form", "takes dataset, format, from"},
		"param of another":    {"POST /v1/jobs", `{"kind":"export","params":{"dataset":"products","from":"2026-01-01"}}`, 400, "param_unknown", "params.from", "products"},
		"param no date":       {"POST /v1/jobs", `{"kind":"export","params":{"dataset":"orders","from":"2026-02-30"}}`, 400, "param_invalid", "params.from", "2026-01-31"},
		"param no number":     {"POST /v1/jobs", `{"kind":"sleep","params":{"seconds":"1"}}`, 400, "param_invalid", "params.seconds", "a number"},
		"param too large":     {"POST /v1/jobs", `{"kind":"sleep","params":{"seconds":1e999}}`, 400, "param_invalid", "params.seconds", "a number"},
		"param negative":      {"POST /v1/jobs", `{"kind":"sleep","params":{"seconds":-1}}`, 400, "param_invalid", "params.seconds", "from 0 to 86400"},
		"param too great":     {"POST /v1/jobs", `{"kind":"sleep","params":{"seconds":1e9}}`, 400, "param_invalid", "params.seconds", "from 0 to 86400"},
		"from after to":       {"POST /v1/jobs", `{"kind":"export","params":{"dataset":"orders","from":"2026-02-01","to":"2026-01-31"}}`, 400, "param_invalid", "params.to", "2026-02-01"},
		"param no boolean":    {"POST /v1/jobs", `{"kind":"sleep","params":{"seconds":1,"fail":"yes"}}`, 400, "param_invalid", "params.fail", "true or false"},
		"param with a NUL":    {"POST /v1/jobs", `{"kind":"export","params":{"dataset":"orders\u0000"}}`, 400, "param_invalid", "params.dataset", "U+0000"},
		"params an array":     {"POST /v1/jobs", `{"kind":"sleep","params":[1]}`, 400, "invalid_request", "params", "object"},
		"params too many":     {"POST /v1/jobs", `{"kind":"sleep","params":{"x":"` + strings.Repeat("x", 300<<10) + `"}}`, 400, "invalid_request", "params", "256 KiB"},
		"title of two lines":  {"POST /v1/jobs", `{"kind":"sleep","title":"a\nb"}`, 400, "invalid_request", "title", "one line"},
		"title too long":      {"POST /v1/jobs", `{"kind":"sleep","title":"` + strings.Repeat("ä", 201) + `"}`, 400, "invalid_request", "title", "200"},
		"attempts a fraction": {"POST /v1/jobs", `{"kind":"sleep","max_attempts":1.5}`, 400, "field_invalid", "max_attempts", "whole number"},
		"attempts too many":   {"POST /v1/jobs", `{"kind":"sleep","max_attempts":101}`, 400, "invalid_request", "max_attempts", "100"},
		"attempts negative":   {"POST /v1/jobs", `{"kind":"sleep","max_attempts":-1}`, 400, "invalid_request", "max_attempts", ""},
		"attempts gigantic":   {"POST /v1/jobs", `{"kind":"sleep","max_attempts":` + strings.Repeat("9", 5000) + `}`, 400, "field_invalid", "max_attempts", "whole number"},
		"body empty":          {"POST /v1/jobs", "", 400, "invalid_request", "kind", ""},
		"body no JSON":        {"POST /v1/jobs", "kind=sleep", 400, "body_not_json", "", "JSON object"},
		"body half":           {"POST /v1/jobs", `{"kind":"sleep"`, 400, "body_not_json", "", ""},
		"body an array":       {"POST /v1/jobs", `[{"kind":"sleep"}]`, 400, "body_not_json", "", ""},
		"body null":           {"POST /v1/jobs", `null`, 400, "body_not_json", "", ""},
		"body and more":       {"POST /v1/jobs", `{"kind":"sleep","params":{"seconds":0}} {}`, 400, "body_not_json", "", ""},
		"body and garbage":    {"POST /v1/jobs", `{"kind":"sleep","params":{"seconds":0}}]`, 400, "body_not_json", "", ""},
		"body no UTF-8":       {"POST /v1/jobs", "{\"kind\":\"sleep\",\"title\":\"\xff\",\"params\":{\"seconds\":0}}", 400, "body_not_json", "", "UTF-8"},
		"body too deep":       {"POST /v1/jobs", `{"params":` + strings.Repeat("[", 20000) + `}`, 400, "body_not_json", "", ""},
		"body too large":      {"POST /v1/jobs", big, 413, "body_too_large", "", "1 MiB"},
		"body large of space": {"POST /v1/jobs", `{"kind":"sleep"}` + strings.Repeat(" ", 1<<20), 413, "body_too_large", "", ""},
		"field unknown":       {"POST /v1/jobs", `{"kind":"sleep","priority":1}`, 400, "field_unknown", "priority", "priority"},
		"field long":          {"POST /v1/jobs", `{"` + strings.Repeat("x", 5000) + `":1}`, 400, "field_unknown", strings.Repeat("x", 60), ""},

		"field in capitals":  {"POST /v1/jobs", `{"kind":"sleep","Title":"x"}`, 400, "field_unknown", "Title", `"title"`},
		"field twice":        {"POST /v1/jobs", `{"kind":"export","kind":"sleep","params":{"seconds":0}}`, 400, "field_duplicate", "kind", "kind"},
		"field twice hidden": {"POST /v1/jobs", `{"kind":"export","k\u0069nd":"sleep","params":{"seconds":0}}`, 400, "field_duplicate", "kind", ""},
		"user in capitals":   {"POST /v1/jobs", `{"kind":"sleep","USER":"bob","params":{"seconds":0}}`, 400, "field_unknown", "USER", `"user"`},
		"param in capitals":  {"POST /v1/jobs", `{"kind":"sleep","params":{"seconds":0,"Seconds":900}}`, 400, "param_unknown", "params.Seconds", "seconds"},
		"param twice":        {"POST /v1/jobs", `{"kind":"sleep","params":{"seconds":0,"seconds":900}}`, 400, "field_duplicate", "params.seconds", "seconds"},
		"param twice within": {"POST /v1/jobs", `{"kind":"sleep","params":{"x":{"a":[{"b":1,"b":1}]}}}`, 400, "field_duplicate", "params.x.a[0].b", ""},

		"limit zero":        {"GET /v1/jobs?limit=0", "", 400, "limit_invalid", "limit", "1 to 100"},
		"limit too large":   {"GET /v1/jobs?limit=101", "", 400, "limit_invalid", "limit", ""},
		"limit a word":      {"GET /v1/notifications?limit=all", "", 400, "limit_invalid", "limit", ""},
		"state unknown":     {"GET /v1/jobs?state=queued,done", "", 400, "state_unknown", "state", "succeeded"},
		"cursor a word":     {"GET /v1/jobs?after=x", "", 400, "cursor_invalid", "after", ""},
		"cursor negative":   {"GET /v1/jobs?after=-1", "", 400, "cursor_invalid", "after", ""},
		"jobs of others":    {"GET /v1/jobs?user=bob", "", 403, "scope_missing", "user", "admin"},
		"status unknown":    {"GET /v1/notifications?status=read", "", 400, "status_unknown", "status", "unread"},
		"before a word":     {"GET /v1/notifications?before=x", "", 400, "cursor_invalid", "before", ""},
		"job unknown":       {"GET /v1/jobs/" + someJob, "", 404, "job_not_found", "", ""},
		"job of wildcards":  {"GET /v1/jobs/*", "", 404, "job_not_found", "", ""},
		"job lower case":    {"GET /v1/jobs/" + strings.ToLower(someJob), "", 404, "job_not_found", "", ""},
		"file unknown":      {"GET /v1/jobs/" + someJob + "/file", "", 404, "job_not_found", "", ""},
		"cancel unknown":    {"POST /v1/jobs/" + someJob + "/cancel", "", 404, "job_not_found", "", ""},
		"retry unknown":     {"POST /v1/jobs/%3E/retry", "", 404, "job_not_found", "", ""},
		"read unknown":      {"POST /v1/notifications/" + someNote + "/read", "", 404, "notification_not_found", "", ""},
		"read a word":       {"POST /v1/notifications/x/read", "", 404, "notification_not_found", "", ""},
		"delete unknown":    {"DELETE /v1/notifications/" + someNote, "", 404, "notification_not_found", "", ""},
		"delete a word":     {"DELETE /v1/notifications/read", "", 404, "notification_not_found", "", ""},
		"up_to a word":      {"POST /v1/notifications/read", `{"up_to":"now"}`, 400, "field_invalid", "up_to", ""},
		"up_to a number":    {"POST /v1/notifications/read", `{"up_to":7}`, 400, "field_invalid", "up_to", "a string"},
		"up_to the future":  {"POST /v1/notifications/read", `{"up_to":"zzzzzzzzz-1"}`, 404, "notification_not_found", "", ""},
		"read all but typo": {"POST /v1/notifications/read", `{"upto":"x"}`, 400, "field_unknown", "upto", ""},

		"notify nobody":       {"POST /v1/notifications", `{"type":"x","title":"x"}`, 400, "audience_invalid", "user", "everyone"},
		"notify both":         {"POST /v1/notifications", `{"user":"bob","everyone":true,"type":"x","title":"x"}`, 400, "audience_invalid", "user", ""},
		"notify _all":         {"POST /v1/notifications", `{"user":"_all","type":"x","title":"x"}`, 400, "invalid_request", "user", "everyone"},
		"notify broken user":  {"POST /v1/notifications", `{"user":"\ud800","type":"x","title":"x"}`, 400, "invalid_request", "user", ""},
		"notify long user":    {"POST /v1/notifications", `{"user":"` + strings.Repeat("x", 1201) + `","type":"x","title":"x"}`, 400, "invalid_request", "user", "1200"},
		"notify no title":     {"POST /v1/notifications", `{"user":"bob","type":"x"}`, 400, "invalid_request", "title", ""},
		"notify no type":      {"POST /v1/notifications", `{"user":"bob","title":"x"}`, 400, "invalid_request", "type", ""},
		"notify a script":     {"POST /v1/notifications", `{"user":"bob","type":"x","title":"x","link":"javascript:alert(1)"}`, 400, "invalid_request", "link", "http"},
		"notify other hosts":  {"POST /v1/notifications", `{"user":"bob","type":"x","title":"x","link":"//evil.example"}`, 400, "invalid_request", "link", ""},
		"notify much data":    {"POST /v1/notifications", `{"user":"bob","type":"x","title":"x","data":"` + strings.Repeat("x", 17<<10) + `"}`, 400, "invalid_request", "data", "16 KiB"},
		"notify long key":     {"POST /v1/notifications", `{"user":"bob","type":"x","title":"x","key":"` + strings.Repeat("x", 256) + `"}`, 400, "invalid_request", "key", "255"},
		"notify a bare key":   {"POST /v1/notifications", `{"user":"bob","type":"x","title":"x","key":"a\nb"}`, 400, "invalid_request", "key", ""},
		"notify a spaced key": {"POST /v1/notifications", `{"user":"bob","type":"x","title":"x","key":"a "}`, 400, "invalid_request", "key", ""},

		"notify USER":        {"POST /v1/notifications", `{"user":"bob","USER":"eve","type":"x","title":"x"}`, 400, "field_unknown", "USER", `"user"`},
		"notify long s":      {"POST /v1/notifications", `{"uſer":"eve","type":"x","title":"x"}`, 400, "field_unknown", "uſer", `"user"`}, // which folds to s
		"notify user twice":  {"POST /v1/notifications", `{"user":"bob","user":"eve","type":"x","title":"x"}`, 400, "field_duplicate", "user", ""},
		"notify data twice":  {"POST /v1/notifications", `{"user":"bob","type":"x","title":"x","data":{"n":1,"n":2}}`, 400, "field_duplicate", "data.n", ""},
		"several User":       {"POST /v1/notifications", `{"notifications":[{"User":"bob","type":"x","title":"x"}]}`, 400, "field_unknown", "notifications[0].User", `"user"`},
		"several twice":      {"POST /v1/notifications", `{"notifications":[{"user":"bob","user":"eve","type":"x","title":"x"}]}`, 400, "field_duplicate", "notifications[0].user", ""},
		"several lists":      {"POST /v1/notifications", `{"notifications":[],"notifications":[{"user":"bob","type":"x","title":"x"}]}`, 400, "field_duplicate", "notifications", ""},
		"read up_to twice":   {"POST /v1/notifications/read", `{"up_to":"a-1","up_to":""}`, 400, "field_duplicate", "up_to", ""},
		"read UP_TO":         {"POST /v1/notifications/read", `{"UP_TO":"a-1"}`, 400, "field_unknown", "UP_TO", ""},
		"session twice":      {"POST /v1/session", `{"user":"ana","user":"bob"}`, 400, "field_duplicate", "user", ""},
		"session User":       {"POST /v1/session", `{"User":"bob"}`, 400, "field_unknown", "User", ""},
		"notify user number": {"POST /v1/notifications", `{"user":7,"type":"x","title":"x"}`, 400, "field_invalid", "user", "a string"},
		"several none":       {"POST /v1/notifications", `{"notifications":[]}`, 400, "field_invalid", "notifications", "1 to 1000"},
		"several too many":   {"POST /v1/notifications", `{"notifications":[{}` + strings.Repeat(",{}", 1000) + `]}`, 400, "field_invalid", "notifications", "1 to 1000"},
		"several no list":    {"POST /v1/notifications", `{"notifications":{}}`, 400, "field_invalid", "notifications", "a list"},
		"several of numbers": {"POST /v1/notifications", `{"notifications":[7]}`, 400, "field_invalid", "notifications[0]", "It must be an object"},
		"several of wrong":   {"POST /v1/notifications", `{"notifications":[{"user":"bob","type":"x","title":"x"},{"user":7}]}`, 400, "field_invalid", "notifications[1].user", "a string"},
		"several of unknown": {"POST /v1/notifications", `{"notifications":[{"usr":"bob"}]}`, 400, "field_unknown", "notifications[0].usr", ""},
		"several null":       {"POST /v1/notifications", `{"notifications":null}`, 400, "field_invalid", "notifications", "a list"},
		"several and more":   {"POST /v1/notifications", `{"notifications":[{"user":"bob","type":"x","title":"x"}]}]`, 400, "body_not_json", "", ""},
		"several and one":    {"POST /v1/notifications", `{"user":"bob","notifications":[{"user":"bob","type":"x","title":"x"}]}`, 400, "field_invalid", "notifications", "excludes"},
		"several in several": {"POST /v1/notifications", `{"notifications":[{"notifications":[]}]}`, 400, "field_unknown", "notifications[0].notifications", ""},
		"several to nobody":  {"POST /v1/notifications", `{"notifications":[{"user":"bob","type":"x","title":"x"},{"type":"x","title":"x"}]}`, 400, "audience_invalid", "notifications[1].user", "notifications[1]: "},
		"several to _all":    {"POST /v1/notifications", `{"notifications":[{"user":"_all","type":"x","title":"x"}]}`, 400, "invalid_request", "notifications[0].user", "everyone"},
		"several untitled":   {"POST /v1/notifications", `{"notifications":[{"user":"bob","type":"x","title":"x"},{"user":"bob","type":"x"}]}`, 400, "invalid_request", "notifications[1].title", ""},

		"session _all":     {"POST /v1/session", `{"user":"_all"}`, 400, "invalid_request", "user", "everyone"},
		"session nobody":   {"POST /v1/session", `{}`, 400, "invalid_request", "user", "empty"},
		"session broken":   {"POST /v1/session", `{"user":"\udfff"}`, 400, "invalid_request", "user", ""},
		"session too long": {"POST /v1/session", `{"user":"` + strings.Repeat("x", 1201) + `"}`, 400, "invalid_request", "user", ""},

		"no such page":   {"GET /nope", "", 404, "not_found", "", ""},
		"no such call":   {"GET /v1/nope", "", 404, "not_found", "", ""},
		"a slash more":   {"GET /v1/jobs/", "", 404, "not_found", "", ""},
		"a path climbs":  {"GET /v1/../etc/passwd", "", 404, "not_found", "", ""},
		"wrong method":   {"PUT /v1/jobs", "", 405, "method_not_allowed", "", "PUT"},
		"wrong method 2": {"GET /v1/jobs/" + someJob + "/cancel", "", 405, "method_not_allowed", "", ""},
		"stream's head":  {"POST /v1/stream", "", 405, "method_not_allowed", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := *s
			s.t = t
			method, path, _ := strings.Cut(c.call, " ")
			headers := ana
			if strings.HasPrefix(path, "/v1/session") {
				headers = nil // only callers without a session send a name
			}
			a := s.call(method, path, c.body, headers...)
			p := a.problem(c.status, c.code)
			if p.Field != c.field || !strings.Contains(p.Detail, c.says) {
				t.Errorf("field %q, want %q: %s", p.Field, c.field, p.Detail)
			}
			if c.status == http.StatusMethodNotAllowed && a.Header.Get("Allow") == "" {
				t.Error("Allow is missing (RFC 9110, section 15.5.6)")
			}
		})
	}
	for _, c := range [][]string{
		{"Prefer", "wait=soon"},
		{"Idempotency-Key", strings.Repeat("k", 256)},
	} {
		a := s.call("POST", "/v1/jobs", `{"kind":"sleep","params":{"seconds":0}}`, append(slices.Clone(ana), c...)...)
		if a.StatusCode != 400 {
			t.Error(c, a.Status, string(a.body))
		}
	}
	var list struct{ Jobs []any }
	if s.call("GET", "/v1/jobs", "", ana...).into(&list); len(list.Jobs) != 0 {
		t.Errorf("something was done after all: %v", list.Jobs)
	}
	var inbox struct{ Notifications []any }
	if s.call("GET", "/v1/notifications", "", s.as("bob")...).into(&inbox); len(inbox.Notifications) != 0 {
		t.Errorf("somebody was notified: %v", inbox.Notifications)
	}
}
