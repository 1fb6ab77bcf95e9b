package hark_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/hark-jobs/hark"
	"github.com/hark-jobs/hark/client"
	"github.com/hark-jobs/hark/internal/joblog"
	"github.com/hark-jobs/hark/internal/logtest"
	"github.com/hark-jobs/hark/internal/natstest"
	"github.com/hark-jobs/hark/internal/polltest"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/notifier/inbox"
	"github.com/hark-jobs/hark/queue"
	"github.com/hark-jobs/hark/worker"
)

// guarded is a NATS server with the account of [hark.NATSConfig], and nothing else.
type guarded struct {
	t   *testing.T
	url string
	log logtest.Buffer // errors of the server: it logs each violation of permissions
}

// serverLog is the log of the errors of a NATS server.
type serverLog struct{ *logtest.Buffer }

func (l serverLog) Errorf(format string, v ...any) { fmt.Fprintf(l, format+"\n", v...) }
func (serverLog) Noticef(string, ...any)           {}
func (serverLog) Warnf(string, ...any)             {}
func (serverLog) Fatalf(string, ...any)            {}
func (serverLog) Debugf(string, ...any)            {}
func (serverLog) Tracef(string, ...any)            {}

const natsPassword = "s3cret-of-all"

func serveGuarded(t *testing.T, o hark.NATSConfigOptions) *guarded {
	t.Helper()
	text, err := hark.NATSConfig(o)
	if err != nil {
		t.Fatal(err)
	}
	var passwords strings.Builder
	for _, role := range []string{"SETUP", "NOTIFIER", "WORKER", "SERVICE", "BACKUP"} {
		fmt.Fprintf(&passwords, "HARK_%s_PASSWORD: %q\n", role, natsPassword)
	}
	path := filepath.Join(t.TempDir(), "nats.conf")
	if err := os.WriteFile(path, []byte(passwords.String()+text), 0o600); err != nil {
		t.Fatal(err)
	}
	options, err := server.ProcessConfigFile(path)
	if err != nil {
		t.Fatalf("the NATS server refuses the configuration: %v\n%s", err, text)
	}
	options.Host, options.Port, options.NoSigs, options.JetStream, options.StoreDir = "127.0.0.1", server.RANDOM_PORT, true, true, t.TempDir()
	ns, err := server.NewServer(options)
	if err != nil {
		t.Fatal(err)
	}
	g := &guarded{t: t}
	ns.SetLogger(serverLog{&g.log}, false, false)
	ns.Start()
	t.Cleanup(func() { ns.Shutdown(); ns.WaitForShutdown() })
	if !ns.ReadyForConnections(time.Minute) {
		t.Fatal("the NATS server does not listen")
	}
	g.url = ns.ClientURL()
	return g
}

// servers says how a role logs in.
func (g *guarded) servers(role string) hark.NATSServers {
	return hark.NATSServers{URL: g.url, User: "hark_" + role, Password: hark.Secret{Value: natsPassword}, InboxPrefix: "_INBOX_hark_" + role}
}

// connect returns a connection of a role.
func (g *guarded) connect(role string) *nats.Conn {
	g.t.Helper()
	nc, err := nats.Connect(g.url, nats.UserInfo("hark_"+role, natsPassword), nats.CustomInboxPrefix("_INBOX_hark_"+role), nats.Timeout(time.Minute),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {})) // the test looks at LastError
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(nc.Close)
	return nc
}

func (g *guarded) setup(settings hark.Settings) []hark.Change {
	g.t.Helper()
	changes, err := hark.Setup(natstest.Context(g.t), hark.SetupOptions{Location: hark.Location{NATSServers: g.servers("setup")}, Settings: settings, Logger: logTo(g.t)})
	if err != nil {
		g.t.Fatal(err)
	}
	return changes
}

// service returns a client of package queue with the role service.
func (g *guarded) service() *queue.Client {
	g.t.Helper()
	q, err := queue.Open(natstest.Context(g.t), g.connect("service"), queue.Options{Logger: logTo(g.t)})
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { q.Close() })
	return q
}

type permittedParams struct {
	Wait bool `json:"wait"` // until the job is cancelled
	Fail bool `json:"fail"`
}

var permittedKind = jobs.Define[permittedParams](jobs.Kind{Name: "report", Title: "Report", MaxAttempts: 1})

func permittedHandler(ctx context.Context, job *worker.Job, p permittedParams) (jobs.Result, error) {
	job.Progress(1, 2, "half")
	if p.Wait {
		<-ctx.Done()
		return jobs.Result{}, context.Cause(ctx)
	}
	if p.Fail {
		return jobs.Result{}, errors.New("it failed")
	}
	err := job.WriteFile(ctx, "report.txt", "text/plain", func(w io.Writer) error {
		_, err := w.Write(bytes.Repeat([]byte("x"), 300<<10)) // several chunks
		return err
	})
	return jobs.Result{Summary: "done"}, err
}

const permittedSecret = "0123456789abcdef0123456789abcdef"

// permittedHark is a hark whose parts have a role each: two notifiers, a worker and a service.
type permittedHark struct {
	*guarded
	notifiers [2]*hark.Server
	service   *queue.Client
	stop      []func()
	streams   int // of the log
}

func startPermitted(t *testing.T, o hark.NATSConfigOptions) *permittedHark {
	t.Helper()
	h := &permittedHark{guarded: serveGuarded(t, o), streams: max(o.Streams, 1)}
	if changes := h.setup(hark.Settings{Streams: o.Streams}); len(changes) != 5+h.streams {
		t.Errorf("setup: %v", changes)
	}
	box, err := inbox.Open(filepath.Join(t.TempDir(), "inbox.db"), inbox.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { box.Close() })
	for i := range h.notifiers {
		var stop func()
		h.notifiers[i], stop = start(t, hark.Options{
			Only: hark.Notifier, NATSServers: h.servers("notifier"), Inbox: box, JWTSecret: hark.Secret{Value: permittedSecret}, Listen: "127.0.0.1:0",
			Topics: []jobs.TopicRule{{Topic: "board.*", Listeners: true, Announce: true}}, Drain: time.Second, Logger: logTo(t),
		})
		h.stop = append(h.stop, stop)
	}
	_, stop := start(t, hark.Options{Only: hark.Worker, NATSServers: h.servers("worker"), Handlers: []worker.Handler{worker.Handle(permittedKind, permittedHandler)}, Logger: logTo(t)})
	h.stop = append(h.stop, stop)
	h.service = h.guarded.service()
	return h
}

// client returns a client of a notifier.
func (h *permittedHark) client(notifier int, user string, scopes ...string) *client.Client {
	h.t.Helper()
	c, err := client.New(client.Options{URL: h.notifiers[notifier].URL(), Token: h.token(user, scopes...)})
	if err != nil {
		h.t.Fatal(err)
	}
	return c
}

func (h *permittedHark) token(user string, scopes ...string) string {
	h.t.Helper()
	issuer, err := h.notifiers[0].Issuer()
	if err != nil {
		h.t.Fatal(err)
	}
	token, _, err := issuer.Issue(user, scopes, time.Hour)
	if err != nil {
		h.t.Fatal(err)
	}
	return token
}

// call calls a notifier over HTTP, and decodes the response unless it is nil. A path with a ticket or a link has no token.
func (h *permittedHark) call(notifier int, method, path, token string, out any) {
	h.t.Helper()
	req, err := http.NewRequestWithContext(natstest.Context(h.t), method, h.notifiers[notifier].URL()+path, nil)
	if err != nil {
		h.t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	res, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		h.t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode >= 300 {
		body, _ := io.ReadAll(res.Body)
		h.t.Fatalf("%s %s: %s %s", method, path, res.Status, body)
	}
	if out != nil {
		if err := json.NewDecoder(res.Body).Decode(out); err != nil {
			h.t.Fatal(err)
		}
	}
}

// listen opens a stream and returns its events as they come.
func (h *permittedHark) listen(notifier int, user string, o client.StreamOptions) (events chan client.Event, stop func()) {
	h.t.Helper()
	ctx, cancel := context.WithCancel(h.t.Context())
	events = make(chan client.Event, 1000)
	c := h.client(notifier, user)
	go func() {
		defer close(events)
		for e, err := range c.Stream(ctx, o) {
			if err != nil {
				return
			}
			events <- e
		}
	}()
	stop = func() {
		cancel()
		for range events {
		}
	}
	h.t.Cleanup(stop)
	return events, stop
}

// await returns the next event that is asked for.
func (h *permittedHark) await(events <-chan client.Event, what string, is func(client.Event) bool) client.Event {
	h.t.Helper()
	limit := time.After(3 * time.Minute)
	for {
		select {
		case e, open := <-events:
			if !open {
				h.t.Fatalf("the stream ended before %s", what)
			}
			if is(e) {
				return e
			}
		case <-limit:
			h.t.Fatalf("in vain: %s", what)
		}
	}
}

func titled(title string) func(client.Event) bool {
	return func(e client.Event) bool {
		return e.Type == client.EventNotification && strings.Contains(string(e.Data), `"`+title+`"`)
	}
}

func (h *permittedHark) state(id string, want jobs.State) jobs.Job {
	h.t.Helper()
	var job jobs.Job
	polltest.Nil(h.t, "the job becomes "+string(want), func() (err error) {
		job, err = h.service.Get(h.t.Context(), "ana", id)
		if err == nil && job.State != want {
			err = fmt.Errorf("it is %s", job.State)
		}
		return err
	})
	return job
}

// With the users of NATSConfig each part of hark does all of its work, and the NATS server refuses nothing.
func TestPermissionsSuffice(t *testing.T) {
	t.Parallel()
	for name, options := range map[string]hark.NATSConfigOptions{
		"any kinds": {}, "named kinds": {Kinds: []string{"report", "export"}},
		"any kinds, four streams": {Streams: 4}, "named kinds, four streams": {Kinds: []string{"report"}, Streams: 4},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := startPermitted(t, options)
			h.doAll()
			for _, stop := range slices.Backward(h.stop) {
				stop()
			}
			for line := range strings.Lines(h.log.String()) {
				if strings.Contains(line, "Violation") {
					t.Errorf("the NATS server logged %s", line)
				}
			}
			for i := range h.streams { // a worker notifies users, and not everyone
				if subject := joblog.DefaultNamespace.BroadcastSubject(i, h.streams); !h.refused(h.connect("worker"), "publish", subject) {
					t.Errorf("a worker may publish on %s", subject)
				}
			}
		})
	}
}

func (h *permittedHark) doAll() {
	t, ctx := h.t, natstest.Context(h.t)
	must := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	events, stopEvents := h.listen(0, "ana", client.StreamOptions{Topics: []string{"board.1", jobs.TopicUser, jobs.TopicAll}})
	h.await(events, "hello", func(e client.Event) bool { return e.Type == client.EventHello })

	// The service enqueues, also with keys, follows a job, runs it again, and lists.
	job, err := queue.Enqueue(ctx, h.service, permittedKind, "ana", permittedParams{}, queue.IdempotencyKey("k"))
	must("enqueue", err)
	again, err := queue.Enqueue(ctx, h.service, permittedKind, "ana", permittedParams{}, queue.IdempotencyKey("k"))
	must("enqueue again", err)
	if again.ID != job.ID {
		t.Errorf("the same key made two jobs")
	}
	for _, err := range h.service.Follow(ctx, "ana", job.ID) {
		must("follow", err)
	}
	if job = h.state(job.ID, jobs.Succeeded); job.File == nil {
		t.Fatal("the job has no file")
	}
	failing, err := queue.EnqueueAll(ctx, h.service, permittedKind, "ana", []permittedParams{{Fail: true}})
	must("enqueue all", err)
	h.state(failing[0].ID, jobs.Failed)
	_, err = h.service.Retry(ctx, "ana", failing[0].ID)
	must("retry", err)
	polltest.Until(t, "the second run fails", func() bool { return h.state(failing[0].ID, jobs.Failed).Run == 2 })
	_, err = h.service.List(ctx, "ana", jobs.ListOptions{})
	must("list", err)

	// Others live in other streams.
	for _, user := range fourUsers {
		of, err := queue.Enqueue(ctx, h.service, permittedKind, user, permittedParams{})
		must("enqueue for "+user, err)
		polltest.Nil(t, "the job of "+user, func() error {
			now, err := h.service.Get(ctx, user, of.ID)
			if err == nil && now.State != jobs.Succeeded {
				err = fmt.Errorf("it is %s", now.State)
			}
			return err
		})
	}

	// The service notifies, and publishes live events.
	for range 2 {
		_, err = h.service.Notify(ctx, "ana", jobs.Notification{Type: "t", Title: "for ana", Key: "k"})
		must("notify", err)
	}
	_, err = h.service.NotifyAll(ctx, []jobs.Addressed{{User: jobs.Everyone, Notification: jobs.Notification{Type: "t", Title: "for all"}}})
	must("notify all", err)
	position := h.await(events, "the notification", titled("for ana"))
	h.await(events, "the broadcast", titled("for all"))
	for _, topic := range []string{"board.1", jobs.UserTopic("ana"), jobs.TopicAll} {
		must("publish", h.service.Publish(ctx, jobs.LiveEvent{Topic: topic, Type: "of." + topic[:4], Data: []byte("1")}))
		h.await(events, "the live event of "+topic, func(e client.Event) bool {
			return e.Type == client.EventLive && strings.Contains(string(e.Data), "of."+topic[:4])
		})
	}

	// Users do the same over HTTP, at both notifiers.
	ana, other := h.client(0, "ana"), h.client(1, "ana")
	_, err = ana.Kinds(ctx)
	must("kinds", err)
	running, err := client.Enqueue(ctx, ana, permittedKind, permittedParams{Wait: true})
	must("enqueue over HTTP", err)
	h.state(running.ID, jobs.Running)
	_, err = other.Cancel(ctx, running.ID)
	must("cancel", err)
	h.state(running.ID, jobs.Cancelled)
	var file bytes.Buffer
	_, err = other.Download(ctx, job.ID, &file)
	must("download", err)
	if file.Len() != 300<<10 {
		t.Errorf("the file has %d bytes", file.Len())
	}
	var link struct{ URL string }
	h.call(0, "POST", "/v1/jobs/"+job.ID+"/file/link", h.token("ana"), &link)
	h.call(1, "GET", "/"+link.URL, "", nil)
	h.call(1, "DELETE", "/v1/jobs/"+job.ID+"/file", h.token("ana"), nil)
	sender := h.client(1, "sender", "notify", "enqueue", "admin")
	_, err = sender.Notify(ctx, "ana", jobs.Notification{Type: "t", Title: "over HTTP"})
	must("notify over HTTP", err)
	must("publish over HTTP", sender.Publish(ctx, jobs.LiveEvent{Topic: "board.1", Type: "http", Data: []byte("1")}))
	last := h.await(events, "the notification over HTTP", titled("over HTTP"))
	n, err := last.Notification()
	must("decode the notification", err)
	polltest.Nil(t, "the inbox has the notification", func() error {
		_, err := ana.MarkRead(t.Context(), n.ID)
		return err
	})
	h.await(events, "the change of the inbox", func(e client.Event) bool { return e.Type == client.EventInbox })

	// Presence, over both notifiers.
	bobs, stopBobs := h.listen(1, "bob", client.StreamOptions{Topics: []string{"board.1"}})
	h.await(bobs, "hello", func(e client.Event) bool { return e.Type == client.EventHello })
	h.await(events, "that bob joins", func(e client.Event) bool {
		return e.Type == client.EventLive && strings.Contains(string(e.Data), "join")
	})
	polltest.Nil(t, "both are present", func() error {
		p, err := other.Presence(t.Context(), "board.1")
		if err == nil && (p.Users != 2 || !p.Complete) {
			err = fmt.Errorf("got %+v", p)
		}
		return err
	})

	// A stream resumes at the other notifier, and a poll is forwarded to the first one.
	resumed, stopResumed := h.listen(1, "ana", client.StreamOptions{LastEventID: position.ID})
	h.await(resumed, "the broadcast, from the log", titled("for all"))
	var poll struct{ Stream, ID string }
	h.call(0, "GET", "/v1/events?wait=0", h.token("ana"), &poll)
	first, _, _ := strings.Cut(poll.Stream, "-")
	h.call(1, "GET", "/v1/events?wait=0&stream="+poll.Stream+"&after="+poll.ID, h.token("ana"), &poll)
	if !strings.HasPrefix(poll.Stream, first+"-") {
		t.Errorf("the poll was not forwarded: the stream %s is not that of %s", poll.Stream, first)
	}

	// A ticket of one notifier at the other, and a revocation.
	var ticket struct{ Ticket string }
	h.call(0, "POST", "/v1/stream/ticket", h.token("ana"), &ticket)
	h.call(1, "GET", "/v1/events?wait=0&ticket="+ticket.Ticket, "", nil)
	_, err = sender.Revoke(ctx, client.Revocation{User: "bob"})
	must("revoke", err)
	polltest.Until(t, "the other notifier refuses the token", func() bool {
		select {
		case _, open := <-bobs:
			return !open
		default:
			return false
		}
	})
	must("lift", sender.LiftRevocation(ctx, client.Revocation{User: "bob"}))
	stopBobs()
	stopResumed()
	stopEvents()

	// The operator changes a setting, and saves a backup.
	if changes := h.setup(hark.Settings{Lease: time.Minute}); len(changes) != 2*h.streams { // of the log, and of the kind
		t.Errorf("setup: %v", changes)
	}
	_, err = hark.Backup(ctx, filepath.Join(t.TempDir(), "backup"), hark.BackupOptions{Location: hark.Location{NATSServers: h.servers("backup")}, Logger: logTo(t)})
	must("backup", err)
}

// refused reports whether the server refuses to publish or to subscribe, without the effects of that: a request has no body.
func (g *guarded) refused(nc *nats.Conn, kind, subject string) bool {
	g.t.Helper()
	verb := "Publish"
	switch kind {
	case "publish":
		if err := nc.Publish(subject, []byte("{")); err != nil { // not JSON, so that no request does anything
			g.t.Fatal(err)
		}
	case "subscribe":
		verb = "Subscription"
		sub, err := nc.SubscribeSync(subject)
		if err != nil {
			g.t.Fatal(err)
		}
		defer sub.Unsubscribe()
	}
	// The server answers in order: a refusal is here before the end of the flush.
	if err := nc.FlushWithContext(natstest.Context(g.t)); err != nil {
		g.t.Fatal(err)
	}
	err := nc.LastError()
	return errors.Is(err, nats.ErrPermissionViolation) && strings.Contains(err.Error(), verb+` to "`+subject+`"`)
}

// For each role: what it may do of this, and that the NATS server refuses it all the rest.
func TestPermissionsRefuse(t *testing.T) {
	t.Parallel()
	const none, all = "", "setup notifier worker service backup"
	g := serveGuarded(t, hark.NATSConfigOptions{Kinds: []string{"report"}})
	g.setup(hark.Settings{})
	roles := make(map[string]*nats.Conn)
	for _, role := range strings.Fields(all) {
		roles[role] = g.connect(role)
	}
	for _, c := range []struct{ kind, subject, may string }{
		// The log: what is stored there, and who reads it.
		{"publish", "hark.log.05.ana.job.report.01J", "notifier worker service"},
		{"publish", "hark.log.05.ana.job.export.01J", "notifier service"}, // no worker runs export
		{"publish", "hark.log.05.ana.state.01J", "notifier worker"},
		{"publish", "hark.log.05.ana.notification", "notifier worker service"},
		{"publish", "hark.log.00._all.notification", "notifier service"},
		{"publish", "hark.log.05.ana.other", none},
		{"publish", "$JS.API.STREAM.INFO.hark_log", all},
		{"publish", "$JS.API.STREAM.MSG.GET.hark_log", "notifier worker service backup"},
		{"publish", "$JS.API.DIRECT.GET.hark_log", "notifier worker service"},
		{"publish", "$JS.API.CONSUMER.CREATE.hark_log.mine", "notifier backup"},
		{"publish", "$JS.API.CONSUMER.CREATE.hark_log.mine.hark.log.>", none},
		{"publish", "$JS.API.CONSUMER.CREATE.hark_log.mine.hark.log.*.*.job.report.*", "setup"},
		{"publish", "$JS.API.CONSUMER.DURABLE.CREATE.hark_log.mine", none},
		// The jobs of workers.
		{"publish", "$JS.API.CONSUMER.CREATE.hark_log.hark-worker-report.hark.log.*.*.job.report.*", "setup worker"},
		{"publish", "$JS.API.CONSUMER.CREATE.hark_log.hark-worker-export.hark.log.*.*.job.export.*", "setup"},
		{"publish", "$JS.API.CONSUMER.CREATE.hark_log.hark-worker-report", none},
		{"publish", "$JS.API.CONSUMER.MSG.NEXT.hark_log.hark-worker-report", "worker"},
		{"publish", "$JS.API.CONSUMER.RESET.hark_log.hark-worker-report", "worker"},
		{"publish", "$JS.API.CONSUMER.DELETE.hark_log.hark-worker-report", none},
		{"publish", "$JS.API.CONSUMER.PAUSE.hark_log.hark-worker-report", none},
		{"publish", "$JS.ACK.hark_log.hark-worker-report.1.1.1.1.0", "worker"},
		{"publish", "$JS.ACK.hark_log.hark-worker-export.1.1.1.1.0", none},
		{"publish", "$JS.ACK.hark_log.mine.1.1.1.1.0", none},
		// Live messages.
		{"publish", "hark.live.05.ana.notification", none},
		{"publish", "hark.live.05.ana.state.01J", none},
		{"publish", "hark.live.05.ana.inbox", "notifier"},
		{"publish", "hark.topic.board.1", "notifier service"},
		{"publish", "hark.hubs", "notifier"},
		{"publish", "hark.presence", "notifier"},
		{"publish", "hark.audience.board.1", "notifier"},
		{"publish", "hark.poll.ABC", "notifier"},
		{"subscribe", "hark.live.>", "notifier"},
		{"subscribe", "hark.live.05.ana.notification", "notifier"},
		{"subscribe", "hark.live.05.ana.state.01J", "notifier worker service"},
		{"subscribe", "hark.topic.board.1", "notifier"},
		{"subscribe", "hark.hubs", "notifier"},
		{"subscribe", "hark.presence", "notifier"},
		{"subscribe", "hark.audience.board.1", "notifier"},
		{"subscribe", "hark.poll.ABC", "notifier"},
		{"subscribe", "hark.log.>", none},
		{"subscribe", ">", none},
		// Responses to others.
		{"subscribe", "_INBOX.>", none},
		{"subscribe", "_INBOX_hark_setup.mine", "setup"},
		{"subscribe", "_INBOX_hark_notifier.mine", "notifier"},
		{"subscribe", "_INBOX_hark_worker.mine", "worker"},
		{"subscribe", "_INBOX_hark_service.mine", "service"},
		{"subscribe", "_INBOX_hark_backup.mine", "backup"},
		{"publish", "_INBOX_hark_notifier.mine", "notifier"},
		{"publish", "_INBOX_hark_worker.mine", none},
		// Kinds.
		{"publish", "$KV.hark_kinds.report", "worker"},
		{"publish", "$KV.hark_kinds.export", none},
		{"publish", "$KV.hark_kinds.clock.report", "worker"},
		{"publish", "$JS.API.STREAM.MSG.GET.KV_hark_kinds", "notifier worker service backup"},
		{"publish", "$JS.API.CONSUMER.CREATE.KV_hark_kinds.mine.$KV.hark_kinds.>", "notifier"},
		{"subscribe", "$KV.hark_kinds.report", none},
		// Tickets, revocations and the key of links.
		{"publish", "$KV.hark_tickets.ABC", "notifier"},
		{"publish", "$KV.hark_revoked.user.YW5h", "notifier"},
		{"publish", "$KV.hark_link_key.key", "notifier"},
		{"publish", "$JS.API.STREAM.MSG.GET.KV_hark_tickets", "notifier"},
		{"publish", "$JS.API.STREAM.MSG.GET.KV_hark_revoked", "notifier"},
		{"publish", "$JS.API.STREAM.MSG.GET.KV_hark_link_key", "notifier"},
		{"publish", "$JS.API.DIRECT.GET.KV_hark_link_key.$KV.hark_link_key.key", none},
		{"publish", "$JS.API.CONSUMER.CREATE.KV_hark_tickets.mine", none},
		{"publish", "$JS.API.CONSUMER.CREATE.KV_hark_tickets.mine.$KV.hark_tickets.>", none},
		{"publish", "$JS.API.CONSUMER.CREATE.KV_hark_revoked.mine.$KV.hark_revoked.>", "notifier"},
		{"publish", "$JS.API.CONSUMER.CREATE.KV_hark_link_key.mine.$KV.hark_link_key.>", none},
		{"subscribe", "$KV.>", none},
		// Files.
		{"publish", "$O.hark_files.C.u.01J.1-1-0.n", "worker"},
		{"publish", "$O.hark_files.M.bmFtZQ==", "worker"},
		{"publish", "$JS.API.DIRECT.GET.OBJ_hark_files", "notifier worker"},
		{"publish", "$JS.API.STREAM.MSG.GET.OBJ_hark_files", "notifier worker backup"},
		{"subscribe", "$O.>", none},
		// The streams themselves.
		{"publish", "$JS.API.STREAM.CREATE.hark_log", "setup"},
		{"publish", "$JS.API.STREAM.UPDATE.hark_log", "setup"},
		{"publish", "$JS.API.STREAM.DELETE.hark_log", none},
		{"publish", "$JS.API.STREAM.PURGE.hark_log", none},
		{"publish", "$JS.API.STREAM.MSG.DELETE.hark_log", none},
		{"publish", "$JS.API.STREAM.SNAPSHOT.hark_log", none},
		{"publish", "$JS.API.STREAM.RESTORE.hark_log", none},
		{"publish", "$JS.API.STREAM.LEADER.STEPDOWN.hark_log", none},
		{"publish", "$JS.API.STREAM.UPDATE.KV_hark_link_key", "setup"},
		{"publish", "$JS.API.STREAM.DELETE.KV_hark_revoked", none},
		{"publish", "$JS.API.STREAM.PURGE.KV_hark_revoked", "notifier"},
		{"publish", "$JS.API.STREAM.PURGE.KV_hark_link_key", none},
		{"publish", "$JS.API.STREAM.PURGE.OBJ_hark_files", "notifier worker"},
		{"publish", "$JS.API.STREAM.DELETE.OBJ_hark_files", none},
		{"publish", "$JS.API.STREAM.LIST", none},
		{"publish", "$JS.API.STREAM.NAMES", none},
		{"publish", "$JS.API.INFO", none},
		{"publish", "$JS.API.ACCOUNT.PURGE.HARK", none},
		{"publish", "$SYS.REQ.SERVER.PING", none},
		// Another namespace, and other streams.
		{"publish", "shop.log.05.ana.job.report.01J", none},
		{"publish", "shop.log.05.ana.notification", none},
		{"publish", "shop.topic.board.1", none},
		{"publish", "shop.hubs", none},
		{"publish", "$KV.shop_kinds.report", none},
		{"publish", "$KV.shop_link_key.key", none},
		{"publish", "$JS.API.STREAM.INFO.shop_log", none},
		{"publish", "$JS.API.STREAM.CREATE.shop_log", none},
		{"publish", "$JS.API.STREAM.UPDATE.shop_log", none},
		{"publish", "$JS.API.STREAM.MSG.GET.shop_log", none},
		{"publish", "$JS.API.DIRECT.GET.shop_log", none},
		{"publish", "$JS.API.CONSUMER.CREATE.shop_log.mine", none},
		{"publish", "$JS.API.STREAM.INFO.ORDERS", none},
		{"subscribe", "shop.live.>", none},
		{"subscribe", "orders.>", none},
	} {
		for role, nc := range roles {
			may := slices.Contains(strings.Fields(c.may), role)
			if refused := g.refused(nc, c.kind, c.subject); refused == may {
				t.Errorf("%s may %s %s: %v, want %v", role, c.kind, c.subject, !refused, may)
			}
		}
	}
}

// What the server refuses does not happen: a worker that knows its way around gets neither the key of links nor rid of the log.
func TestPermissionsHold(t *testing.T) {
	t.Parallel()
	h := startPermitted(t, hark.NATSConfigOptions{Kinds: []string{"report"}})
	nc := h.connect("worker")
	for _, c := range []struct{ subject, body string }{
		{"$JS.API.STREAM.MSG.GET.KV_hark_link_key", `{"last_by_subj":"$KV.hark_link_key.key"}`},
		{"$JS.API.STREAM.DELETE.hark_log", ""},
		{"$JS.API.STREAM.PURGE.hark_log", ""},
	} {
		answers, err := nc.SubscribeSync(nc.NewInbox())
		if err != nil {
			t.Fatal(err)
		}
		if err := nc.PublishRequest(c.subject, answers.Subject, []byte(c.body)); err != nil {
			t.Fatal(err)
		}
		// A request that is permitted is answered after those before it.
		if _, err := nc.RequestWithContext(natstest.Context(t), "$JS.API.STREAM.INFO.hark_log", nil); err != nil {
			t.Fatal(err)
		}
		if n, _, _ := answers.Pending(); n > 0 {
			t.Errorf("%s was answered", c.subject)
		}
	}
	job, err := queue.Enqueue(natstest.Context(t), h.service, permittedKind, "ana", permittedParams{})
	if err != nil {
		t.Fatal(err)
	}
	h.state(job.ID, jobs.Succeeded)
}

// refusalTime is the timeout of a request that the server refuses, and so does not answer.
const refusalTime = time.Second

// Before hark setup no role can open its streams, nor create them, and the error says what to do.
func TestPermissionsBeforeSetup(t *testing.T) {
	t.Parallel()
	g := serveGuarded(t, hark.NATSConfigOptions{})
	opens := func(nc *nats.Conn, namespace, says string) {
		t.Helper()
		polltest.Nil(t, "it says "+says, func() error { // on a slow machine a request may take as long as the time
			ctx, cancel := context.WithTimeout(t.Context(), refusalTime)
			defer cancel()
			q, err := queue.Open(ctx, nc, queue.Options{Namespace: namespace, Logger: logTo(t)})
			if err == nil {
				q.Close()
				t.Fatal("it was opened")
			}
			if !strings.Contains(err.Error(), says) {
				return err
			}
			return nil
		})
	}
	for _, role := range []string{"service", "worker", "notifier"} {
		opens(g.connect(role), "", "the stream hark_log does not exist, and this login may not create it; run hark setup first")
	}
	opens(g.connect("service"), "shop", "the stream shop_log may not be used by this login")
	plain, err := nats.Connect(g.url, nats.UserInfo("hark_service", natsPassword), nats.Timeout(time.Minute),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	opens(plain, "", "this login may not subscribe to its inbox; give the inbox prefix")
	g.setup(hark.Settings{})
	g.service()
}

// A notifier whose log has lost messages may not begin an epoch, says what to do, and the operator does it.
func TestPermissionsNewEpoch(t *testing.T) {
	t.Parallel()
	g := serveGuarded(t, hark.NATSConfigOptions{})
	g.setup(hark.Settings{})
	store, err := joblog.Open(natstest.Context(t), g.connect("notifier"), joblog.Options{Logger: logTo(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	before := store.Epoch()
	polltest.Nil(t, "it says what to do", func() error { // on a slow machine a request may take as long as the time
		ctx, cancel := context.WithTimeout(t.Context(), refusalTime)
		defer cancel()
		_, err := store.BeginEpoch(ctx, before)
		if err == nil {
			t.Fatal("an epoch has begun")
		}
		if !strings.Contains(err.Error(), "run hark setup --new-epoch") {
			return err
		}
		return nil
	})
	changes, err := hark.Setup(natstest.Context(t), hark.SetupOptions{Location: hark.Location{NATSServers: g.servers("setup")}, NewEpoch: true, Logger: logTo(t)})
	if err != nil || len(changes) != 1 || changes[0].Setting != "epoch" {
		t.Errorf("setup: %v, %v", changes, err)
	}
	if now, err := store.CurrentEpoch(natstest.Context(t)); err != nil || now <= before {
		t.Errorf("the epoch is %d, %v; it was %d", now, err, before)
	}
}
