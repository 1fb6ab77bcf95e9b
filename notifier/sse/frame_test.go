package sse_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/notifier/sse"
)

// Every frame has exactly these bytes.
func TestFrames(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	id := jobs.NotificationID{Epoch: 36, Seq: 7}
	position := jobs.Position{Epoch: 36, Own: 35, All: 1 << 40}
	for _, c := range []struct {
		name, got, want string
	}{
		{"hello", string(sse.HelloFrame(position, "añ日", at)),
			"id: 10-z-e13wu1og\nevent: hello\ndata: {\"user\":\"añ日\",\"id\":\"10-z-e13wu1og\",\"server_time\":\"2026-01-02T03:04:05Z\"}\n\n"},
		{"notification", string(sse.NotificationFrame(id, []byte(`{"key":"k","title":"Grüße 日本 🎉"}`))),
			"event: notification\ndata: {\"key\":\"k\",\"title\":\"Grüße 日本 🎉\",\"id\":\"10-7\",\"status\":\"unread\"}\n\n"},
		{"notification in lines", string(sse.NotificationFrame(id, []byte("{\n  \"key\": \"k\"\r\n}\n"))),
			"event: notification\ndata: {\"key\":\"k\",\"id\":\"10-7\",\"status\":\"unread\"}\n\n"},
		{"notification with a link", string(sse.NotificationFrame(id, []byte(`{"key":"k","link":"/x","a":1}`))),
			"event: notification\ndata: {\"key\":\"k\",\"link\":\"/x\",\"a\":1,\"id\":\"10-7\",\"status\":\"unread\"}\n\n"},
		{"notification with a script", string(sse.NotificationFrame(id, []byte(`{"key":"k","link":"javascript:alert(1)","a":{"link":"x"}}`))),
			"event: notification\ndata: {\"key\":\"k\",\"a\":{\"link\":\"x\"},\"id\":\"10-7\",\"status\":\"unread\"}\n\n"},
		{"job asked for", string(sse.JobFrame(orderOf, 5, []byte(`{"id":"01JD3Q00000000000000000000","kind":"k","title":"T","user":"ana","max_attempts":3,"created_at":"2026-01-02T03:04:05Z","run":1,"params":{"secret":1}}`))),
			"event: job\ndata: {\"id\":\"01JD3Q00000000000000000000\",\"kind\":\"k\",\"title\":\"T\",\"user\":\"ana\",\"state\":\"queued\",\"progress\":{\"done\":0,\"total\":0},\"attempt\":0,\"max_attempts\":3,\"created_at\":\"2026-01-02T03:04:05Z\",\"run\":1,\"revision\":5}\n\n"},
		{"job", string(sse.JobFrame(stateOf, 6, []byte("{\"id\":\"01JD3Q00000000000000000000\",\"user\":\"ana\",\"kind\":\"k\",\"run\":1,\"state\":\"running\",\"worker\":\"w\",\"result\":{\n\"n\": 1},\"created_at\":\"2026-01-02T03:04:05Z\"}"))),
			"event: job\ndata: {\"id\":\"01JD3Q00000000000000000000\",\"kind\":\"k\",\"title\":\"\",\"user\":\"ana\",\"state\":\"running\",\"progress\":{\"done\":0,\"total\":0},\"attempt\":0,\"max_attempts\":0,\"created_at\":\"2026-01-02T03:04:05Z\",\"result\":{\"n\":1},\"run\":1,\"revision\":6}\n\n"},
		{"inbox", string(sse.InboxFrame([]byte(`{"unread":3}`))), "event: inbox\ndata: {\"unread\":3}\n\n"},
		{"inbox in lines", string(sse.InboxFrame([]byte("{\"unread\":\n3}"))), "event: inbox\ndata: {\"unread\":3}\n\n"},
		{"bye", string(sse.ByeFrame("shutting_down", "Bye.", 1500*time.Millisecond)),
			"retry: 1500\nevent: bye\ndata: {\"code\":\"shutting_down\",\"message\":\"Bye.\"}\n\n"},
		{"heartbeat", string(sse.Heartbeat), "event: heartbeat\ndata: {}\n\n"},
	} {
		if c.got != c.want {
			t.Errorf("%s:\ngot  %q\nwant %q", c.name, c.got, c.want)
		}
	}
	for _, bad := range []string{"", "{}", "{ }", " {\t} ", "[]", "null", `"}"`, "{", `{"a":1}}`, "{\n}"} {
		if got := sse.NotificationFrame(id, []byte(bad)); got != nil {
			t.Errorf("%q made %q", bad, got)
		}
	}
	for _, bad := range []string{"", "null", "{}", "[1]", `{"id":7}`} {
		if got := sse.JobFrame(stateOf, 1, []byte(bad)); got != nil {
			t.Errorf("%q made %q", bad, got)
		}
	}
	if got := sse.InboxFrame([]byte("x\n\nevent: notification")); got != nil {
		t.Errorf("made %q", got)
	}
}

// Where the messages of a job are stored.
var (
	orderOf = defaultNS.SpecSubject("ana", "k", jobID)
	stateOf = defaultNS.StateSubject("ana", jobID)
)

// A job event is smaller than the backlog of a stream, whatever its handler has left.
func TestJobFramesAreSmall(t *testing.T) {
	job := jobs.Job{
		ID: jobID, User: "ana", Kind: "k", Run: 1, State: jobs.Failed, Title: strings.Repeat("<", jobs.MaxTitleChars), Progress: jobs.Progress{Message: strings.Repeat("<", 1<<17)},
		Result: json.RawMessage(`"` + strings.Repeat("<", 1<<17) + `"`), Error: &jobs.Error{Code: "c", Message: strings.Repeat("日", 1<<17)},
	}
	for name, result := range map[string]json.RawMessage{"large": job.Result, "escaped": job.Result[:32<<10], "none": nil} {
		if name == "escaped" {
			result = append(bytes.Clone(result[:len(result)-1]), '"')
		}
		job.Result = result
		stored, err := json.Marshal(&job)
		if err != nil {
			t.Fatal(err)
		}
		frame := sse.JobFrame(stateOf, 1, stored)
		var got struct {
			jobs.Job
			ResultOmitted bool `json:"result_omitted"`
		}
		_ = parse(bytes.NewReader(frame), func(e event) {
			if err := json.Unmarshal([]byte(e.data), &got); err != nil {
				t.Error(err)
			}
		})
		if len(frame) > 64<<10 || got.ID != jobID || got.ResultOmitted != (result != nil) || got.Result != nil {
			t.Errorf("%s: %d bytes, %+.200v", name, len(frame), got)
		}
		if !strings.HasSuffix(got.Error.Message, "日…") || !strings.HasSuffix(got.Progress.Message, "<…") {
			t.Errorf("%s: texts are not cut well", name)
		}
	}
	job.Result = json.RawMessage(`"` + strings.Repeat("x", 32<<10-2) + `"`)
	if stored, err := json.Marshal(&job); err != nil || len(sse.JobFrame(stateOf, 1, stored)) > 64<<10 {
		t.Error("with the largest result and texts it is larger", err)
	}
	small := sse.JobFrame(stateOf, 1, []byte(`{"id":"01JD3Q00000000000000000000","user":"ana","kind":"k","run":1,"state":"succeeded","result":{"rows":3}}`))
	if !bytes.Contains(small, []byte(`"result":{"rows":3}`)) || bytes.Contains(small, []byte("omitted")) {
		t.Errorf("%s", small)
	}
}

// unmarshal accepts numbers of any size.
func unmarshal(text []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	if err := dec.Decode(v); err != nil {
		return err
	}
	if _, err := dec.Token(); err != io.EOF {
		return errors.New("there is more after the value")
	}
	return nil
}

// For any stored notification a reader gets one event with the same data, or none.
func FuzzFrame(f *testing.F) {
	for _, seed := range []string{
		`{"key":"k","type":"t","title":"T","created_at":"2026-01-02T03:04:05Z"}`, "{\"a\":\"x\u2028\u0085\"}", "{\n\"a\":1}", "{ }", "{}",
		`{"id":"evil","status":"read"}`, `{"a":"\r\nevent: bye"}`, "{\"a\":\"\ufeff\"}", `[{"a":1}]`, " {\"a\":[{}]} ", `{"":null}`, `{"a":1,"a":2}`, `{"a":1e700}`,
		`{"link":"/x"}`, `{"a":1,"link":"javascript:alert(1)","b":[2]}`, `{"LINK":"//evil.example","k":1}`, `{"l\u0069nk":"/\t/x","k":1}`, "{\"lin\u212a\":\"data:,\"}", `{"link":7,"a":1}`, "{\"a\":1}\r", `{"":""}0`,
	} {
		f.Add([]byte(seed), uint64(7), uint64(0), uint64(1<<64-1))
	}
	f.Fuzz(func(t *testing.T, stored []byte, seq, own, all uint64) {
		id := jobs.NotificationID{Epoch: 1, Seq: seq}
		frame := sse.NotificationFrame(id, stored)
		var want map[string]any
		if frame == nil {
			if unmarshal(stored, &want) != nil {
				return
			}
			maps.DeleteFunc(want, func(name string, _ any) bool { return strings.EqualFold(name, "link") })
			if len(want) > 0 {
				t.Errorf("%q made no frame", stored)
			}
			return
		}
		var events []event
		position := jobs.Position{Epoch: 1<<63 - 1, Own: own, All: all}
		line := sse.IDLine(nil, position)
		if len(line) > sse.MaxIDLine {
			t.Errorf("the line %q has %d bytes", line, len(line))
		}
		_ = parse(bytes.NewReader(append(line, frame...)), func(e event) { events = append(events, e) })
		wantID := position.String()
		if len(events) != 1 || events[0].name != "notification" || events[0].id != wantID || events[0].retry != 0 {
			t.Fatalf("%q made %+v", stored, events)
		}
		if !utf8.Valid(stored) {
			return // a browser replaces what is no UTF-8
		}
		var got map[string]any
		if err := unmarshal([]byte(events[0].data), &got); err != nil {
			t.Fatalf("%q made %q: %v", stored, events[0].data, err)
		}
		if err := unmarshal(stored, &want); err != nil {
			t.Fatalf("%q made a frame: %v", stored, err)
		}
		want["id"], want["status"] = id.String(), "unread"
		for name := range got {
			link, isText := got[name].(string)
			if strings.EqualFold(name, "link") && got[name] != nil && (!isText || link != "" && !jobs.SafeLink(link)) {
				t.Errorf("%q made a link of %v", stored, got[name])
			}
		}
		for name := range want { // of several, some may have been refused
			if strings.EqualFold(name, "link") {
				delete(want, name)
				delete(got, name)
			}
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%q made %v", stored, got)
		}
	})
}

// For any Last-Event-ID the reader resumes within the log or gets a reset.
func FuzzLastEventID(f *testing.F) {
	for _, seed := range []string{"", "10-7", "10-7-7", "10-0-7", "10-7-0", "10-z-7", "10-7-z", "10-a-k", "10-4-4", "10-3-4", "zz-7-7", "10--", "--", "10-3w5e11264sgsf-7",
		"10-07-7", "\x00", "10-7-7\n", "é-1-1", "10-A-7"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, id string) {
		const first, last = 5, 20
		at, reason := sse.ResumePoint(id, 36, first, last)
		if at.Epoch != 36 || at.Own+1 < first || at.Own > last || at.All+1 < first || at.All > last || reason != "" && at != (jobs.Position{Epoch: 36, Own: last, All: last}) {
			t.Errorf("%q resumes at %s, %q", id, at, reason)
		}
		if reason == "" && id != "" && at.String() != id {
			t.Errorf("%q resumes at %s", id, at)
		}
	})
}
