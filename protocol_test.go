package hark_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/hark-jobs/hark/client"
	"github.com/hark-jobs/hark/harktest"
	"github.com/hark-jobs/hark/internal/logtest"
	"github.com/hark-jobs/hark/internal/natsd"
	"github.com/hark-jobs/hark/internal/natstest"
	"github.com/hark-jobs/hark/internal/polltest"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/queue"
	"github.com/hark-jobs/hark/worker"
)

// natsServer starts a NATS server that other programs can reach, and returns its URL and a connection of a program that is not
// hark.
func natsServer(t *testing.T) (url string, nc *nats.Conn) {
	t.Helper()
	server, err := natsd.Start(natsd.Options{Dir: t.TempDir(), Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	nc, err = nats.Connect(server.URL(), nats.Timeout(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return server.URL(), nc
}

// listener is a stream of a user that listens to topics.
type listener struct {
	t    *testing.T
	next func() (client.Event, error, bool)
}

func listen(t *testing.T, c *client.Client, topics ...string) *listener {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute) // a missing event fails the test
	next, stop := iter.Pull2(c.Stream(ctx, client.StreamOptions{Topics: topics}))
	t.Cleanup(func() { cancel(); stop() })
	l := &listener{t, next}
	l.until(client.EventHello, func(client.Event) bool { return true })
	return l
}

// until returns the next event of a type that is meant.
func (l *listener) until(typ string, meant func(client.Event) bool) client.Event {
	l.t.Helper()
	for {
		e, err, ok := l.next()
		if err != nil || !ok {
			l.t.Fatalf("the stream ended before an event %s: %v", typ, err)
		}
		if e.Type == typ && meant(e) {
			return e
		}
	}
}

// keyed reports whether an event is the notification with a key.
func keyed(t *testing.T, key string) func(client.Event) bool {
	return func(e client.Event) bool {
		n, err := e.Notification()
		if err != nil {
			t.Error(err)
		}
		return n.Key == key
	}
}

// liveOf reports whether an event is a live event of a topic and a type.
func liveOf(t *testing.T, topic, typ string) func(client.Event) bool {
	return func(e client.Event) bool {
		live, err := e.Live()
		if err != nil {
			t.Error(err)
		}
		return live.Topic == topic && live.Type == typ
	}
}

// command matches the commands in docs/protocol.md that publish a message, and its parts.
var (
	command = regexp.MustCompile(`(?m)^nats (req|pub) (\S+) '([^']+)'((?: -H '[^']+')*)$`)
	header  = regexp.MustCompile(`-H '([^:']+): ([^']+)'`)
)

// examples returns the messages of the commands in docs/protocol.md, by their subjects. Those that are stored have a reply
// subject in the document: they are requests.
func examples(t *testing.T) (msgs map[string]*nats.Msg, stored map[string]bool) {
	t.Helper()
	text, err := os.ReadFile("docs/protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	msgs, stored = make(map[string]*nats.Msg), make(map[string]bool)
	for _, c := range command.FindAllStringSubmatch(string(text), -1) {
		m := &nats.Msg{Subject: c[2], Data: []byte(c[3])}
		for _, h := range header.FindAllStringSubmatch(c[4], -1) {
			if m.Header == nil {
				m.Header = make(nats.Header)
			}
			m.Header[h[1]] = []string{h[2]}
		}
		msgs[c[2]], stored[c[2]] = m, c[1] == "req"
	}
	if n := strings.Count(string(text), "\nnats req ") + strings.Count(string(text), "\nnats pub "); n != len(msgs) || n == 0 {
		t.Fatalf("docs/protocol.md has %d commands, %d of them are read", n, len(msgs))
	}
	return msgs, stored
}

// publish publishes a message as a plain client of NATS, and returns its sequence if it is stored.
func publish(t *testing.T, nc *nats.Conn, m *nats.Msg, stored bool) uint64 {
	t.Helper()
	if !stored {
		if err := errors.Join(nc.PublishMsg(m), nc.FlushWithContext(natstest.Context(t))); err != nil {
			t.Fatal(err)
		}
		return 0
	}
	answer, err := nc.RequestMsgWithContext(natstest.Context(t), m)
	if err != nil {
		t.Fatalf("%s: %v", m.Subject, err)
	}
	var ack struct {
		Stream string
		Seq    uint64
		Error  any
	}
	if err := json.Unmarshal(answer.Data, &ack); err != nil || ack.Stream != "hark_log" || ack.Seq == 0 {
		t.Fatalf("%s is answered with %s, %v", m.Subject, answer.Data, err)
	}
	return ack.Seq
}

// What docs/protocol.md says about services that publish straight to NATS: its own examples arrive on the streams and in the
// inboxes of their users, and the job runs. Malformed messages before them stop nothing. Operators find each in the metrics, in the
// log and in the list.
func TestPlainNATS(t *testing.T) {
	t.Parallel()
	url, nc := natsServer(t)
	var log logtest.Buffer
	h := harktest.Start(t, harktest.NATS(url), harktest.Admin("127.0.0.1:0"), harktest.Log(slog.New(slog.NewTextHandler(io.MultiWriter(&log, t.Output()), nil))),
		harktest.Topics(jobs.TopicRule{Topic: "comments.*"}))
	ana, bob := listen(t, h.Client("ana"), "comments.42", "_user", "_all"), listen(t, h.Client("bob"), "_all")

	const id = "01JD3Q0000000000000000000"
	malformed := []struct {
		what, subject, body string
		stored              bool
	}{
		{"notification", "hark.log.05.ana.notification", `x`, true},
		{"notification", "hark.log.05.ana.notification", `{"key":"k"}`, true},
		{"notification", "hark.log.05.ana.notification", `{"key":"k","type":"t","title":7}`, true},
		{"notification", "hark.log.05.ana.notification", `{"key":"k","type":"t","title":"t","created_at":"yesterday"}`, true},
		{"notification", "hark.log.00._all.notification", `[]`, true},
		{"notification", "hark.log.06.ana.notification", `{"key":"k","type":"t","title":"in the shard of others"}`, true},
		{"job", "hark.log.05.ana.job.sleep." + id + "1", `{"id":`, true},
		{"job", "hark.log.05.ana.job.sleep." + id + "2", `{"id":"` + id + `2","kind":"sleep","title":"t","user":"bob","max_attempts":1,"run":1}`, true},
		{"job", "hark.log.05.ana.job.sleep.7", `{"id":"7","kind":"sleep","title":"t","user":"ana","max_attempts":1,"run":1}`, true},
		{"event", "hark.topic.comments.42", `{"data":1}`, false},
		{"event", "hark.topic._all", `{"type":"a b"}`, false},
	}
	counts := make(map[string]int)
	want := make(map[string]bool) // one for each that is in the list
	for _, m := range malformed {
		seq := publish(t, nc, &nats.Msg{Subject: m.subject, Data: []byte(m.body)}, m.stored)
		counts[m.what]++
		want[fmt.Sprintf("%s %d", m.what, seq)] = true
		if m.stored {
			polltest.Until(t, "logged: "+m.body, func() bool {
				return slices.ContainsFunc(strings.Split(log.String(), "\n"), func(line string) bool {
					return strings.Contains(line, m.subject) && strings.Contains(line, " seq="+strconv.FormatUint(seq, 10)+" ") || log.Count("malformed message skipped") >= 10
				})
			})
		}
	}

	msgs, stored := examples(t)
	for subject, m := range msgs {
		publish(t, nc, m, stored[subject])
	}
	shown := make(map[string]bool)
	for len(shown) < 6 {
		e, err, ok := ana.next()
		if err != nil || !ok {
			t.Fatalf("the stream ended after %v: %v", shown, err)
		}
		switch e.Type {
		case client.EventNotification:
			n, err := e.Notification()
			if err != nil {
				t.Fatal(err)
			}
			if n.Key == "k" || n.Key == "" {
				t.Errorf("malformed, and shown: %s", e.Data)
				continue
			}
			if n.Type == "job.succeeded" {
				n.Key = n.JobID
			}
			shown[n.Key] = true
		case client.EventLive:
			live, err := e.Live()
			if err != nil {
				t.Fatal(err)
			}
			shown[live.Topic+" "+live.Type] = true
		}
	}
	if got := strings.Join(slices.Sorted(maps.Keys(shown)), ", "); got != "01JD3Q00000000000000000007, _all maintenance, _user typing, comments.42 like.added, order-7, sale-1" {
		t.Errorf("the stream of ana has %s", got)
	}
	bob.until(client.EventNotification, keyed(t, "sale-1"))
	job, err := h.Client("ana").Job(t.Context(), "01JD3Q00000000000000000007")
	if err != nil || job.State != jobs.Succeeded || job.Title != "A short sleep" {
		t.Errorf("the job: %+v, %v", job, err)
	}
	var listed []string
	for _, n := range h.Notifications("ana") {
		listed = append(listed, n.Type+" "+n.Title)
	}
	slices.Sort(listed)
	if got := strings.Join(listed, ", "); got != "job.succeeded A short sleep is done, order.shipped Your order is on its way, sale.begins The sale begins" {
		t.Errorf("the inbox of ana has %s", got)
	}

	get := func(path string) string {
		req, err := http.NewRequestWithContext(t.Context(), "GET", h.AdminURL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Close = true
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err != nil || res.StatusCode != 200 {
			t.Fatalf("%s: %s, %v", path, res.Status, err)
		}
		return string(body)
	}
	for what, n := range counts {
		line := fmt.Sprintf("hark_log_messages_skipped_total{what=%q} %d\n", what, n)
		polltest.Until(t, line, func() bool { return strings.Contains(get("/metrics"), line) })
	}
	var list struct {
		Skipped []struct {
			What, Subject, Reason string
			Seq                   uint64
			At                    time.Time
		}
	}
	if err := json.Unmarshal([]byte(get("/skipped")), &list); err != nil {
		t.Fatal(err)
	}
	if len(list.Skipped) != len(malformed) {
		t.Errorf("%d messages are listed, want %d", len(list.Skipped), len(malformed))
	}
	for _, m := range list.Skipped {
		if !want[fmt.Sprintf("%s %d", m.What, m.Seq)] || m.Reason == "" || m.At.IsZero() || !strings.HasPrefix(m.Subject, "hark.") {
			t.Errorf("listed and not published, or incomplete: %+v", m)
		}
	}
}

// protocolParams are those of the kind of TestMessagesAreAsDocumented.
type protocolParams struct {
	Do     string  `json:"do"`
	Factor float64 `json:"factor,omitempty" minimum:"1" maximum:"9"`
}

var protocolKind = jobs.Define[protocolParams](jobs.Kind{
	Name: "protocol", Title: "Protocol", Action: "Go", Unit: "rows", Claims: []string{"team"},
	Allow: []jobs.Rule{{Claims: map[string][]string{"team": {"red"}}}, {Scope: "notify"}},
	Params: []jobs.Param{
		{Name: "do", Title: "Do", Type: jobs.TypeString, Required: true, Options: []jobs.Option{{Value: "end", Title: "End"}, {Value: "wait"}, {Value: "fail", Params: []jobs.Param{{Name: "factor", Type: jobs.TypeNumber}}}}},
		{Name: "from", Type: jobs.TypeDate}, {Name: "to", Type: jobs.TypeDate, NotBefore: "from"}, {Name: "text", Type: jobs.TypeString, MaxLength: 7, Default: "x"},
	},
})

// capture has the messages that were published while a test ran.
type capture struct {
	mu   sync.Mutex
	msgs []*nats.Msg
}

func (c *capture) add(m *nats.Msg) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.msgs = append(c.msgs, m)
}

func (c *capture) all() []*nats.Msg {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.msgs)
}

// Whatever hark publishes and stores is valid against the schema of its channel in docs/asyncapi.json. Messages of all channels
// occur.
func TestMessagesAreAsDocumented(t *testing.T) {
	t.Parallel()
	doc := readAsyncAPI(t)
	url, nc := natsServer(t)
	seen := new(capture)
	sub, err := nc.Subscribe(">", seen.add)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(sub.SetPendingLimits(-1, -1), nc.FlushWithContext(natstest.Context(t))); err != nil {
		t.Fatal(err)
	}
	shared := []harktest.Option{harktest.NATS(url), harktest.Secret("0123456789abcdef0123456789abcdef"), harktest.Topics(jobs.TopicRule{Topic: "room.*", Listeners: true, Announce: true})}
	waiting := make(chan string, 1)
	h := harktest.Start(t, append(shared, harktest.Handlers(worker.Handle(protocolKind, func(ctx context.Context, job *worker.Job, p protocolParams) (jobs.Result, error) {
		job.Progress(1, 2, "half of it")
		switch p.Do {
		case "wait":
			waiting <- job.ID
			<-ctx.Done()
			return jobs.Result{}, context.Cause(ctx)
		case "fail":
			return jobs.Result{}, &worker.Error{Code: "no", Message: "It failed."}
		}
		err := job.WriteFile(ctx, "a.txt", "text/plain", func(w io.Writer) error { _, err := io.WriteString(w, "hello"); return err })
		return jobs.Result{Value: map[string]int{"rows": 2}, Summary: "Both rows."}, err
	}, worker.Backoff(func(int) time.Duration { return time.Millisecond }))))...)
	other := harktest.Start(t, shared...)
	ctx := t.Context()
	ana, root := h.Client("ana"), h.Client("root", "admin", "notify", "enqueue")
	stream := listen(t, ana, "room.1", "_user")
	listen(t, other.Client("bob"), "room.1")

	// Jobs: one with everything, one that fails, is retried twice by the worker and once by hand, and one that is cancelled.
	run := func(do string, options ...queue.Option) jobs.Job {
		t.Helper()
		options = append(options, queue.MaxAttempts(2), queue.Claims(map[string]any{"team": "red"}))
		job, err := queue.Enqueue(ctx, h.Queue, protocolKind, "ana", protocolParams{Do: do, Factor: 0}, options...)
		if err != nil {
			t.Fatal(err)
		}
		return job
	}
	if job := h.Wait(run("end", queue.IdempotencyKey("k"), queue.EnqueuedBy("shop"), queue.Metadata(map[string]string{"trace": "7"}))); job.State != jobs.Succeeded || job.File == nil {
		t.Fatalf("%+v", job)
	}
	failed := h.Wait(run("fail"))
	if failed.State != jobs.Failed || failed.Attempt != 2 {
		t.Fatalf("%+v", failed)
	}
	if failed, err = h.Queue.Retry(ctx, "ana", failed.ID); err != nil {
		t.Fatal(err)
	}
	if failed = h.Wait(failed); failed.Run != 2 {
		t.Fatalf("%+v", failed)
	}
	cancelled := run("wait")
	<-waiting
	if _, err := h.Queue.Cancel(ctx, "ana", cancelled.ID); err != nil {
		t.Fatal(err)
	}
	if cancelled = h.Wait(cancelled); cancelled.State != jobs.Cancelled {
		t.Fatalf("%+v", cancelled)
	}
	// Notifications, changes of the inbox, and live events.
	notified, err := h.Queue.Notify(ctx, "ana", jobs.Notification{Type: "t", Title: "<Title>", Body: "b", Link: "/x", Data: json.RawMessage(`{"a":[1]}`)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Queue.Notify(ctx, jobs.Everyone, jobs.Notification{Key: "once", Type: "t", Title: "All"}); err != nil {
		t.Fatal(err)
	}
	stream.until(client.EventNotification, keyed(t, "once"))
	if _, err := ana.MarkRead(ctx, notified.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := ana.DeleteNotification(ctx, notified.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := ana.MarkAllRead(ctx, ""); err != nil {
		t.Fatal(err)
	}
	for _, topic := range []string{"room.1", jobs.UserTopic("ana"), jobs.TopicAll} {
		if err := root.Publish(ctx, jobs.LiveEvent{Topic: topic, Type: "t", Data: json.RawMessage(`[1]`)}); err != nil {
			t.Fatal(err)
		}
	}
	stream.until(client.EventLive, liveOf(t, "room.1", "t"))
	stream.until(client.EventLive, liveOf(t, "_user", "t"))
	// Presence and an audience at two notifiers, a poll that reaches the other notifier, a ticket, and revocations.
	polltest.Until(t, "both listen", func() bool {
		p, err := ana.Presence(ctx, "room.1")
		return err == nil && p.Users == 2
	})
	call := func(method, url, token string) (body map[string]any) {
		t.Helper()
		req, err := http.NewRequestWithContext(ctx, method, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		req.Close = true
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if err := json.NewDecoder(res.Body).Decode(&body); err != nil || res.StatusCode > 201 {
			t.Fatalf("%s %s: %s, %v %v", method, url, res.Status, body, err)
		}
		return body
	}
	token := h.Token("ana")
	first := call("GET", h.URL+"/v1/events?topic=room.1", token)
	if second := call("GET", fmt.Sprintf("%s/v1/events?topic=room.1&wait=0&stream=%v&after=%v", other.URL, first["stream"], first["id"]), token); second["stream"] == nil {
		t.Fatal(second)
	}
	call("POST", h.URL+"/v1/stream/ticket?topic=room.1", token)
	for _, r := range []client.Revocation{{User: "eve"}, {JTI: "jti-7"}} {
		if _, err := root.Revoke(ctx, r); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := ana.Presence(ctx, "room.1"); err != nil {
		t.Fatal(err)
	}
	if err := nc.FlushWithContext(natstest.Context(t)); err != nil {
		t.Fatal(err)
	}

	channels, replies, fields := make(map[string]int), make(map[string]string), make(map[string]bool)
	polltest.Until(t, "messages of all channels", func() bool {
		clear(channels)
		for _, m := range seen.all() {
			for channel, prefix := range map[string]string{"beats": "hark.hubs", "audience": "hark.audience.", "clock": "$KV.hark_kinds.clock."} {
				if strings.HasPrefix(m.Subject, prefix) {
					channels[channel]++
				}
			}
		}
		return channels["beats"] > 0 && channels["audience"] > 1 && channels["clock"] > 0
	})
	clear(channels)
	for _, m := range seen.all() {
		channel := replies[m.Subject]
		if channel == "" {
			ids := doc.channelsOf(t, m.Subject)
			if len(ids) != 1 {
				if strings.HasPrefix(m.Subject, "hark.") || strings.HasPrefix(m.Subject, "$KV.") || strings.HasPrefix(m.Subject, "$O.") {
					t.Errorf("%s is of the channels %v, want one", m.Subject, ids)
				}
				continue
			}
			channel = ids[0]
		}
		if strings.HasPrefix(m.Reply, "$JS.ACK.") || m.Header.Get("Nats-Sequence") != "" && !strings.HasPrefix(channel, "live") {
			continue // what the server sends to a reader has the subject of the stored message
		}
		channels[channel]++
		if answer := map[string]string{"presence": "presenceAnswers", "poll": "pollAnswers"}[channel]; answer != "" {
			replies[m.Reply] = answer
		}
		doc.check(t, channel, m, fields)
	}
	for id := range doc.Channels {
		if channels[id] == 0 {
			t.Errorf("no message of the channel %s was published", id)
		}
	}
	checkStored(t, doc, nc)
	// Each field of the messages that services read or write has occurred, but for these.
	without := []string{"jobState.lost", "jobState.result_omitted"}
	for _, name := range []string{"jobRequest", "jobState", "notification", "liveEvent"} {
		for field := range doc.Components.Schemas[name].Properties {
			if !fields[name+"."+field] && !slices.Contains(without, name+"."+field) {
				t.Errorf("no message had %s.%s", name, field)
			}
		}
	}
}

// check checks a message of a channel: its body and its headers, where the document has headers.
func (doc *asyncAPI) check(t *testing.T, channel string, m *nats.Msg, fields map[string]bool) {
	t.Helper()
	operation := m.Header.Get("KV-Operation") != "" // a delete of a key has no value
	if (len(m.Data) == 0 && operation) || m.Header.Get("Nats-Marker-Reason") != "" {
		return
	}
	for name := range doc.Channels[channel].Messages {
		message := doc.Components.Messages[name]
		var body any = string(m.Data)
		if message.ContentType == "application/json" {
			if err := json.Unmarshal(m.Data, &body); err != nil {
				t.Errorf("%s: %v: %s", m.Subject, err, m.Data)
				return
			}
		}
		if p := doc.problem(*message.Payload, body); p != "" {
			t.Errorf("channel %s, %s: %s %q", channel, m.Subject, p, m.Data)
		}
		if object, ok := body.(map[string]any); ok {
			for field := range object {
				fields[strings.TrimPrefix(message.Payload.Ref, "#/components/schemas/")+"."+field] = true
			}
		}
		if message.Headers == nil {
			continue
		}
		headers := make(map[string]any)
		for name, values := range m.Header {
			headers[name] = values[len(values)-1]
		}
		if p := doc.problem(*message.Headers, headers); p != "" {
			t.Errorf("channel %s, %s: the header %s: %v", channel, m.Subject, p, m.Header)
		}
	}
}

// checkStored checks all messages that the streams have, with their headers, and the settings of the streams and consumers in
// docs/protocol.md.
func checkStored(t *testing.T, doc *asyncAPI, nc *nats.Conn) {
	t.Helper()
	ctx := natstest.Context(t)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	streams := 0
	names := js.StreamNames(ctx)
	for name := range names.Name() {
		streams++
		stream, err := js.Stream(ctx, name)
		if err != nil {
			t.Fatal(err)
		}
		for seq := stream.CachedInfo().State.FirstSeq; seq <= stream.CachedInfo().State.LastSeq; seq++ {
			m, err := stream.GetMsg(ctx, seq)
			if errors.Is(err, jetstream.ErrMsgNotFound) {
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			ids := doc.channelsOf(t, m.Subject)
			if len(ids) != 1 {
				t.Errorf("%s in %s is of the channels %v, want one", m.Subject, name, ids)
				continue
			}
			for _, added := range []string{"Nats-Stream", "Nats-Subject", "Nats-Sequence", "Nats-Time-Stamp"} { // by a direct get
				m.Header.Del(added)
			}
			doc.check(t, ids[0], &nats.Msg{Subject: m.Subject, Header: m.Header, Data: m.Data}, make(map[string]bool))
		}
	}
	if err := names.Err(); err != nil || streams != 6 {
		t.Errorf("%d streams, want 6: %v", streams, err)
	}
	log, err := js.Stream(ctx, "hark_log")
	if err != nil {
		t.Fatal(err)
	}
	c := log.CachedInfo().Config
	if c.MaxAge != 7*24*time.Hour || c.Duplicates != 10*time.Minute || !c.AllowDirect || !c.AllowRollup || !c.AllowAtomicPublish || c.RePublish == nil || c.RePublish.Source != "hark.log.>" || c.RePublish.Destination != "hark.live.>" ||
		c.Metadata["hark.lease"] != "30s" || c.Retention != jetstream.LimitsPolicy || c.Storage != jetstream.FileStorage {
		t.Errorf("hark_log: %+v", c)
	}
	consumer, err := log.Consumer(ctx, "hark-worker-protocol")
	if err != nil {
		t.Fatal(err)
	}
	if w := consumer.CachedInfo().Config; w.FilterSubject != "hark.log.*.*.job.protocol.*" || w.AckPolicy != jetstream.AckExplicitPolicy || w.AckWait != 30*time.Second || w.MaxDeliver != -1 || w.MaxAckPending != -1 ||
		w.MaxWaiting != 4096 || w.DeliverPolicy != jetstream.DeliverAllPolicy {
		t.Errorf("hark-worker-protocol: %+v", w)
	}
	files, err := js.Stream(ctx, "OBJ_hark_files")
	if err != nil || files.CachedInfo().Config.MaxAge != 8*24*time.Hour || files.CachedInfo().Config.Metadata["hark.user-file-space"] == "" {
		t.Errorf("OBJ_hark_files: %v", err)
	}
}
