package joblog_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/hark-jobs/hark/internal/joblog"
	"github.com/hark-jobs/hark/internal/natstest"
	"github.com/hark-jobs/hark/jobs"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	otherID   = "01JD3Q00000000000000000001"
	missingID = "01JD3Q00000000000000000002"
)

// store writes a message as any program may that has access to NATS.
func store(t *testing.T, q *joblog.Store, subject, body string) uint64 {
	t.Helper()
	ack, err := q.JetStream().Publish(natstest.Context(t), subject, []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	return ack.Sequence
}

func openPoisoned(t *testing.T) *joblog.Store {
	t.Helper()
	t.Parallel()
	q, err := joblog.Open(natstest.Context(t), natstest.Connect(t), joblog.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { q.Close() })
	if err := q.PublishKind(natstest.Context(t), jobs.Kind{Name: "k", Title: "K", Open: true}); err != nil {
		t.Fatal(err)
	}
	return q
}

func enqueue(t *testing.T, q *joblog.Store, r jobs.Request) jobs.Job {
	t.Helper()
	r.Kind = "k"
	job, _, err := q.Enqueue(natstest.Context(t), r)
	if err != nil {
		t.Fatal(err)
	}
	return job
}

// body is the JSON of a job request or state with some of its members changed.
func body(t *testing.T, v any, change map[string]any) string {
	t.Helper()
	text, err := json.Marshal(v)
	members := make(map[string]any)
	if err == nil {
		err = json.Unmarshal(text, &members)
	}
	for name, value := range change {
		members[name] = value
	}
	if err == nil {
		text, err = json.Marshal(members)
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// What somebody else than hark has stored breaks no list, and shows nobody the job of another user. Each such message counts
// once, however often it is met.
func TestPoisonIsSkipped(t *testing.T) {
	q := openPoisoned(t)
	ctx := natstest.Context(t)
	anas := []string{enqueue(t, q, jobs.Request{User: "ana"}).ID, enqueue(t, q, jobs.Request{User: "ana"}).ID}
	bobs := []string{enqueue(t, q, jobs.Request{User: "bob"}).ID}
	spec := joblog.Spec{ID: missingID, Kind: "k", User: "ana", Run: 1, MaxAttempts: 1}
	specOf := defaultNS.SpecSubject("ana", "k", missingID)
	var requests, states uint64
	for subject, bodies := range map[string][]string{
		specOf: {"", "null", "{", `{"a":1}`, "[]", body(t, spec, map[string]any{"user": "bob"}), body(t, spec, map[string]any{"user": ""}),
			body(t, spec, map[string]any{"id": otherID}), body(t, spec, map[string]any{"kind": "other"}), body(t, spec, map[string]any{"run": 0}),
			body(t, spec, map[string]any{"user": 7}), body(t, spec, nil) + "x", strings.Repeat("x", 300<<10)},
		defaultNS.SpecSubject("ana", "K", missingID):        {body(t, spec, map[string]any{"kind": "K"})},
		defaultNS.SpecSubject("ana", "k", "x"):              {body(t, spec, map[string]any{"id": "x"})},
		ofToken("a=62", ".job.k."+missingID):                {body(t, spec, map[string]any{"user": "ab"}), body(t, spec, map[string]any{"user": "a=62"})},
		ofToken("a=", ".job.k."+missingID):                  {body(t, spec, nil)},
		ofToken("_all", ".job.k."+missingID):                {body(t, spec, map[string]any{"user": "_all"})},
		defaultNS.SpecSubject("ana", "k", missingID) + ".x": {body(t, spec, nil)}, // which is on no list
		"hark.log.00.ana.job.k." + missingID:                {body(t, spec, nil)}, // in the shard of others
		ofToken("ana", ".job"):                              {body(t, spec, nil)},
	} {
		for _, b := range bodies {
			store(t, q, subject, b)
			if strings.Count(subject, ".") == 6 {
				requests++
			}
		}
	}
	state := jobs.Job{ID: anas[0], Kind: "k", User: "ana", State: jobs.Succeeded, Run: 1}
	for _, b := range []string{"", "{}", "x", body(t, state, map[string]any{"user": "bob"}), body(t, state, map[string]any{"id": otherID}),
		body(t, state, map[string]any{"state": "done"}), body(t, state, map[string]any{"run": -1}), body(t, state, map[string]any{"kind": "*"})} {
		store(t, q, defaultNS.StateSubject("ana", anas[0]), b)
		states++
	}
	list := func(user string, everyone bool, want ...string) {
		t.Helper()
		page, err := q.List(ctx, user, jobs.ListOptions{Limit: 100, Everyone: everyone})
		if err != nil {
			t.Fatalf("%s: %v", user, err)
		}
		var got []string
		for _, job := range page.Jobs {
			got = append(got, job.ID)
			if !everyone && job.User != user || job.State != jobs.Queued {
				t.Errorf("%s sees %+v", user, job)
			}
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s sees %v, not %v", user, got, want)
		}
	}
	for range 2 {
		list("ana", false, anas...)
		list("bob", false, bobs...)
		list("ab", false)
		list("", true, append(bobs, anas...)...)
	}
	for _, id := range []string{missingID, otherID} {
		for _, user := range []string{"ana", "bob", "ab", "a=62"} {
			if job, err := q.Get(ctx, user, id); !errors.Is(err, jobs.ErrNotFound) {
				t.Errorf("%s gets %+v, %v", user, job, err)
			}
			if _, err := q.Cancel(ctx, user, id); !errors.Is(err, jobs.ErrNotFound) {
				t.Errorf("%s cancels: %v", user, err)
			}
		}
	}
	if job, err := q.Cancel(ctx, "ana", anas[0]); err != nil || job.State != jobs.Cancelled || job.User != "ana" {
		t.Errorf("cancelled: %+v, %v", job, err)
	}
	if got := q.Skipped(); got[joblog.SkippedJob] != requests || got[joblog.SkippedState] != states {
		t.Errorf("skipped %v, not %d requests and %d states", got, requests, states)
	}
}

// A message that cannot be read hides nothing that stood on its subject before.
func TestPoisonHidesNothing(t *testing.T) {
	q := openPoisoned(t)
	ctx := natstest.Context(t)
	first := enqueue(t, q, jobs.Request{User: "ana", IdempotencyKey: "key"})
	ended, err := q.Finish(ctx, first, jobs.Failed, 0)
	if err != nil {
		t.Fatal(err)
	}
	store(t, q, defaultNS.SpecSubject("ana", "k", first.ID), "x")
	store(t, q, defaultNS.SpecSubject("ana", "other", first.ID), "x") // the last order for all kinds
	last := store(t, q, defaultNS.StateSubject("ana", first.ID), "x")
	store(t, q, defaultNS.StateSubject("bob", first.ID), "x")
	got, err := q.Get(ctx, "ana", first.ID)
	if err != nil || got.State != jobs.Failed || !got.FinishedAt.Equal(ended.FinishedAt) || got.Revision != last {
		t.Errorf("got %+v, %v", got, err)
	}
	page, err := q.List(ctx, "ana", jobs.ListOptions{Limit: 10})
	if err != nil || len(page.Jobs) != 1 || page.Jobs[0].State != jobs.Failed {
		t.Errorf("listed %+v, %v", page, err)
	}
	if user, err := q.Owner(ctx, first.ID); err != nil || user != "ana" {
		t.Errorf("owner %q, %v", user, err)
	}
	if again, created, err := q.Enqueue(ctx, jobs.Request{User: "ana", Kind: "k", IdempotencyKey: "key"}); created || again.ID != first.ID {
		t.Errorf("enqueued again: %+v, %v, %v", again, created, err)
	}
	if again, err := q.Retry(ctx, "ana", first.ID, nil); err != nil || again.Run != 2 || again.State != jobs.Queued {
		t.Errorf("retried: %+v, %v", again, err)
	}
}

// A stored message has the subject and the sequence that the server says, and is none of its answers, whatever headers its
// publisher has set.
func TestPoisonHeaders(t *testing.T) {
	q := openPoisoned(t)
	ctx := natstest.Context(t)
	headers := nats.Header{
		"Nats-Subject": {defaultNS.StateSubject("bob", missingID)}, "Nats-Sequence": {"1"}, "Nats-Last-Sequence": {"7"}, "Nats-Stream": {"OTHER"}, "Status": {"404"},
	}
	put := func(subject, body string) {
		t.Helper()
		if _, err := q.JetStream().PublishMsg(ctx, &nats.Msg{Subject: subject, Header: headers, Data: []byte(body)}); err != nil {
			t.Fatal(err)
		}
	}
	first := enqueue(t, q, jobs.Request{User: "ana"})
	put(defaultNS.StateSubject("ana", missingID), `{"id":"`+missingID+`","kind":"k","user":"bob","state":"running","run":1}`)
	put(defaultNS.StateSubject("ana", first.ID), "")
	put(defaultNS.SpecSubject("ana", "k", missingID), "")
	for _, status := range []string{"204", "404", "413", "503", "409"} {
		headers["Status"] = []string{status}
		put(defaultNS.NotificationSubject("ana"), "")
	}
	second := enqueue(t, q, jobs.Request{User: "ana"})
	if _, _, err := q.Notify(ctx, "ana", jobs.Notification{Type: "t", Title: "T"}); err != nil {
		t.Fatal(err)
	}
	page, err := q.List(ctx, "ana", jobs.ListOptions{Limit: 10})
	if err != nil || len(page.Jobs) != 2 || page.Jobs[0].ID != second.ID || page.Jobs[1].ID != first.ID {
		t.Errorf("listed %+v, %v", page.Jobs, err)
	}
	if job, err := q.Get(ctx, "bob", missingID); !errors.Is(err, jobs.ErrNotFound) {
		t.Errorf("bob gets %+v, %v", job, err)
	}
	if job, err := q.Cancel(ctx, "ana", first.ID); err != nil || job.State != jobs.Cancelled {
		t.Errorf("cancelled %+v, %v", job, err)
	}
	notes, more, err := q.NotificationsPage(ctx, "ana", 0, 100)
	if err != nil || len(notes) != 7 || more { // one of them is about the cancelled job
		t.Errorf("%d notifications, %v, %v", len(notes), more, err)
	}
}

// What cannot be read under the id of an idempotency key, or under the key of a notification, is not the same request.
func TestPoisonUnderAKey(t *testing.T) {
	q := openPoisoned(t)
	ctx := natstest.Context(t)
	id := enqueue(t, q, jobs.Request{User: "ana", IdempotencyKey: "key"}).ID
	stream, err := q.JetStream().Stream(ctx, defaultNS.LogStream())
	if err == nil {
		err = stream.Purge(ctx, jetstream.WithPurgeSubject(defaultNS.SpecSubject("ana", "k", id)))
	}
	if err != nil {
		t.Fatal(err)
	}
	store(t, q, defaultNS.SpecSubject("ana", "k", id), "x")
	if job, _, err := q.Enqueue(ctx, jobs.Request{User: "ana", Kind: "k", IdempotencyKey: "key"}); !errors.Is(err, jobs.ErrKeyReused) {
		t.Errorf("enqueued %+v, %v", job, err)
	}
	m := &nats.Msg{Subject: defaultNS.NotificationSubject("ana"), Header: nats.Header{nats.MsgIdHdr: {defaultNS.NotificationSubject("ana") + "/key"}}, Data: []byte("x")}
	if _, err := q.JetStream().PublishMsg(ctx, m); err != nil {
		t.Fatal(err)
	}
	if _, _, err := q.Notify(ctx, "ana", jobs.Notification{Key: "key", Type: "t", Title: "T"}); !errors.Is(err, jobs.ErrKeyReused) {
		t.Errorf("notified: %v", err)
	}
}

// What is no job of the user does not count against the limit of their waiting jobs.
func TestPoisonDoesNotWait(t *testing.T) {
	q := openPoisoned(t)
	b := joblog.NewBacklogs(q)
	count := func(want int) {
		t.Helper()
		if n, err := b.Count(natstest.Context(t), "ana", "k", 1000); err != nil || n != want {
			t.Errorf("%d wait, not %d; %v", n, want, err)
		}
	}
	enqueue(t, q, jobs.Request{User: "bob"})
	count(0)
	store(t, q, defaultNS.SpecSubject("ana", "k", missingID), "x")
	store(t, q, defaultNS.SpecSubject("ana", "k", "x"), `{"id":"x","kind":"k","user":"ana","run":1}`)
	store(t, q, defaultNS.StateSubject("ana", missingID), `{"id":"`+missingID+`","kind":"k","user":"bob","state":"retrying","run":1}`)
	store(t, q, ofToken("ana", ".job"), "x")
	count(0)
	enqueue(t, q, jobs.Request{User: "ana"})
	count(1)
}

// A kind that cannot be read takes no other from the list.
func TestPoisonKind(t *testing.T) {
	q := openPoisoned(t)
	ctx := natstest.Context(t)
	bucket, err := q.JetStream().KeyValue(ctx, defaultNS.KindsBucket())
	if err != nil {
		t.Fatal(err)
	}
	for key, value := range map[string]string{"broken": "x", "named": `{"name":"k"}`, "NoKind": `{"name":"NoKind"}`} {
		if _, err := bucket.Put(ctx, key, []byte(value)); err != nil {
			t.Fatal(err)
		}
	}
	kinds, err := q.Kinds(ctx)
	if err != nil || len(kinds) != 1 || kinds[0].Name != "k" {
		t.Errorf("kinds %+v, %v", kinds, err)
	}
	for _, name := range []string{"broken", "named", "NoKind"} {
		if _, _, err := q.Enqueue(ctx, jobs.Request{User: "ana", Kind: name}); err == nil {
			t.Errorf("a job of %s was accepted", name)
		}
	}
	if n := q.Skipped()[joblog.SkippedKind]; n != 2 {
		t.Errorf("%d kinds were skipped", n)
	}
}

// Whatever is stored where, what is read of it has the user and the id of its subject.
func FuzzDecode(f *testing.F) {
	spec := `{"id":"` + missingID + `","kind":"k","title":"T","user":"ana","params":{"a":[1]},"max_attempts":3,"created_at":"2026-01-02T03:04:05Z","run":1}`
	state := `{"id":"` + missingID + `","kind":"k","user":"ana","state":"running","run":1,"attempt":1}`
	for _, seed := range [][2]string{
		{defaultNS.SpecSubject("ana", "k", missingID), spec}, {defaultNS.StateSubject("ana", missingID), state}, {defaultNS.LiveStateSubject("ana", missingID), state},
		{defaultNS.StateSubject("bob", missingID), state}, {ofToken("a=2Eb", ".job.k."+missingID), spec}, {ofToken("ana", ".job"), spec}, {defaultNS.NotificationSubject("ana"), "{}"},
		{defaultNS.StateSubject("ana", missingID), `{"USER":"ana","user":"bob"}`}, {defaultNS.SpecSubject("ana", "k", missingID), spec + "x"}, {ofToken("", ".job.k."+missingID), ""}, {"hark.log.00.ana.state." + missingID, state},
		{"hark.live.", ""},
	} {
		f.Add(seed[0], []byte(seed[1]))
	}
	f.Fuzz(func(t *testing.T, subject string, body []byte) {
		a, err := joblog.ParseAddress(subject)
		if err == nil && a.User != jobs.Everyone {
			rest := map[joblog.Class]string{joblog.ClassJob: ".job." + a.Kind + "." + a.ID, joblog.ClassState: ".state." + a.ID, joblog.ClassNotification: ".notification", joblog.ClassInbox: ".inbox"}[a.Class]
			ns, _, _ := strings.Cut(subject, ".")
			token := joblog.EscapeUser(a.User)
			if want := "." + joblog.Shard(token) + "." + token + rest; subject != ns+".log"+want && subject != ns+".live"+want {
				t.Errorf("%q is %+v", subject, a)
			}
		}
		if o, orderErr := joblog.DecodeSpec(subject, body); orderErr == nil {
			if err != nil || o.User != a.User || o.ID != a.ID || o.Kind != a.Kind || o.Run < 1 {
				t.Errorf("%q: %+v", subject, o)
			}
			job := o.Job()
			if _, err := json.Marshal(&job); err != nil {
				t.Errorf("%q cannot be shown: %v", body, err)
			}
		}
		if job, stateErr := joblog.DecodeState(subject, body); stateErr == nil {
			if err != nil || job.User != a.User || job.ID != a.ID || !job.State.Valid() || job.Run < 1 {
				t.Errorf("%q: %+v", subject, job)
			}
			if _, err := json.Marshal(&job); err != nil {
				t.Errorf("%q cannot be shown: %v", body, err)
			}
		}
	})
}

// Of many messages that are skipped each counts, and a few are logged.
func TestSkipsAreLoggedAFewTimes(t *testing.T) {
	q := openPoisoned(t)
	for i := range uint64(50) {
		q.Skip(joblog.SkippedState, defaultNS.StateSubject("ana", "x"), i+1, fmt.Errorf("because of %d", i))
		q.Skip(joblog.SkippedState, defaultNS.StateSubject("ana", "x"), i+1, fmt.Errorf("because of %d", i))
	}
	if n := q.Skipped()[joblog.SkippedState]; n != 50 {
		t.Errorf("%d were counted", n)
	}
}

// The last 100 skipped messages are listed, the newest first, each once, with the subject in the log and a reason of limited length.
func TestSkipsAreListed(t *testing.T) {
	q := openPoisoned(t)
	if list := q.ListSkipped(); len(list) != 0 {
		t.Fatalf("before any skip: %+v", list)
	}
	subject := defaultNS.StateSubject("ana", "x")
	for i := range uint64(150) {
		for range 2 {
			q.Skip(joblog.SkippedState, joblog.LiveOf(subject), i+1, fmt.Errorf("%d is wrong%s", i+1, strings.Repeat(" ü", 1000)))
		}
	}
	list := q.ListSkipped()
	if len(list) != 100 {
		t.Fatalf("%d messages are listed, want 100", len(list))
	}
	for i, m := range list {
		seq := uint64(150 - i)
		if m.Seq != seq || m.What != joblog.SkippedState || m.Subject != subject || !strings.HasPrefix(m.Reason, fmt.Sprintf("%d is wrong", seq)) || m.At.IsZero() {
			t.Errorf("number %d: %+v, want sequence %d", i, m, seq)
		}
		if len(m.Reason) > 510 || !utf8.ValidString(m.Reason) {
			t.Errorf("number %d has a reason of %d bytes", i, len(m.Reason))
		}
	}
}

// ofToken returns a subject of the log with a user's token, which may be malformed, in the shard of that token.
func ofToken(token, rest string) string {
	return "hark.log." + joblog.Shard(token) + "." + token + rest
}
