package notifier_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/hark-jobs/hark/harktest"
	"github.com/hark-jobs/hark/internal/joblog"
	"github.com/hark-jobs/hark/internal/natsd"
	"github.com/hark-jobs/hark/internal/natstest"
	"github.com/hark-jobs/hark/internal/polltest"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/queue"
	"github.com/hark-jobs/hark/worker"
)

// Two harks with different namespaces on one NATS server share nothing: jobs, notifications, live and in the inbox,
// broadcasts, tickets, revocations, files, links to files, and kinds. One namespace begins the other.
func TestNamespacesApart(t *testing.T) {
	ns, err := natsd.Start(natsd.Options{Dir: t.TempDir(), Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(ns.Stop)
	begin := func(namespace, kind string) *site {
		ran := func(context.Context, *worker.Job, struct{}) (jobs.Result, error) {
			return jobs.Result{Summary: "ran by " + namespace}, nil
		}
		return start(t, harktest.NATS(ns.URL()), harktest.Namespace(namespace), harktest.Secret(secret),
			harktest.Handlers(leave, worker.Handle(jobs.Define[struct{}](jobs.Kind{Name: "both"}), ran), worker.Handle(jobs.Define[struct{}](jobs.Kind{Name: kind}), ran)))
	}
	one, two := begin("a", "one"), begin("a_b", "two")
	ana := one.as("ana")
	heard, _ := two.listen("/v1/stream", ana...)

	// Jobs: each runs at the hark that has accepted it.
	job := one.finish("ana", `{"kind":"leave","params":{"name":"n","text":"0123456789"}}`)
	one.call("GET", filePath(job), "", ana...).want(200)
	two.call("GET", "/v1/jobs/"+job.ID, "", ana...).problem(404, "job_not_found")
	two.call("GET", filePath(job), "", ana...).problem(404, "job_not_found")
	for namespace, s := range map[string]*site{"a": one, "a_b": two} {
		for range 5 {
			if ended := s.finish("ana", `{"kind":"both"}`); !strings.Contains(string(s.call("GET", "/v1/jobs/"+ended.ID, "", ana...).body), "ran by "+namespace+`"`) {
				t.Errorf("a job of %s: %+v", namespace, ended)
			}
		}
	}
	one.call("POST", "/v1/jobs", `{"kind":"two"}`, ana...).problem(400, "kind_unknown")

	// Notifications: live, and in the inbox.
	for _, to := range []string{`{"user":"ana","type":"test","title":"of one"}`, `{"everyone":true,"type":"test","title":"of one, for all"}`} {
		one.call("POST", "/v1/notifications", to, one.as("service", "notify")...).want(201)
	}
	two.call("POST", "/v1/notifications", `{"user":"ana","type":"test","title":"of two"}`, two.as("service", "notify")...).want(201)
	for {
		e := heard.next()
		if e.name == "" || strings.Contains(e.data, "of one") {
			t.Fatalf("heard %+v", e)
		}
		if strings.Contains(e.data, "of two") {
			break
		}
	}
	polltest.Until(t, "the inbox of one is filled", func() bool {
		return strings.Count(string(one.call("GET", "/v1/notifications?limit=100", "", ana...).body), "of one") == 2
	})
	polltest.Until(t, "the inbox of two is filled", func() bool {
		return strings.Contains(string(two.call("GET", "/v1/notifications?limit=100", "", ana...).body), "of two")
	})
	if body := string(two.call("GET", "/v1/notifications?limit=100", "", ana...).body); strings.Contains(body, "of one") {
		t.Errorf("the inbox of two: %s", body)
	}

	// Tickets and links.
	var issued struct{ Ticket, URL string }
	one.call("POST", "/v1/stream/ticket", "", ana...).into(&issued)
	two.refusesTicket(issued.Ticket)
	one.listen("/v1/stream?ticket=" + issued.Ticket)

	// Revocations.
	one.call("POST", "/v1/revocations", `{"user":"ana"}`, one.as("root", "admin")...).want(201)
	one.call("GET", "/v1/jobs", "", ana...).problem(401, "token_revoked")
	two.call("GET", "/v1/jobs", "", ana...).want(200)
	if got := string(two.call("GET", "/v1/revocations", "", two.as("root", "admin")...).body); strings.Contains(got, "ana") {
		t.Errorf("the revocations of two: %s", got)
	}

	// A service over NATS, and hark setup.
	nc, err := ns.Connect()
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	q, err := queue.Open(natstest.Context(t), nc, queue.Options{Namespace: "a_b"})
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	if _, err := q.Get(natstest.Context(t), "ana", job.ID); !errors.Is(err, jobs.ErrNotFound) {
		t.Errorf("a job of the other namespace: %v", err)
	}
	changes, err := joblog.Setup(natstest.Context(t), nc, joblog.Location{Namespace: "a"}, joblog.Settings{MaxAge: time.Hour}, false)
	if err != nil || len(changes) != 1 || changes[0].What != "a_log" {
		t.Errorf("changed %v, %v", changes, err)
	}
	for namespace, want := range map[joblog.Namespace]time.Duration{"a": time.Hour, "a_b": 7 * 24 * time.Hour} {
		log, err := q.Store().JetStream().Stream(natstest.Context(t), namespace.LogStream())
		if err != nil || log.CachedInfo().Config.MaxAge != want {
			t.Errorf("%s: %v", namespace, err)
		}
	}
	if _, err := q.Store().JetStream().Stream(natstest.Context(t), joblog.DefaultNamespace.LogStream()); err == nil {
		t.Error("there is a stream of the namespace hark")
	}
}
