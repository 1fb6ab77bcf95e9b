package joblog_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/hark-jobs/hark/internal/joblog"
	"github.com/hark-jobs/hark/jobs"
	"github.com/nats-io/nats.go"
)

// The shard of a user is part of the format of the log: other programs compute it, and it never changes.
func TestShard(t *testing.T) {
	for user, want := range map[string]string{
		"ana": "05", "bob": "20", "a": "44", "42": "03", "user-1": "52", "a@b.c": "32", "🦉": "54", "Zoë": "21", jobs.Everyone: "00",
	} {
		if got := joblog.Shard(joblog.EscapeUser(user)); got != want {
			t.Errorf("the shard of %q is %s, want %s", user, got, want)
		}
	}
	seen := make(map[string]bool)
	for i := range 10_000 {
		seen[joblog.Shard(fmt.Sprint(i))] = true
	}
	if len(seen) != joblog.Shards {
		t.Errorf("10,000 users have %d shards", len(seen))
	}
	for shard := range seen {
		if len(shard) != 2 || shard < "00" || shard > "63" {
			t.Errorf("the shard %q", shard)
		}
	}
}

func TestSubjects(t *testing.T) {
	const ns joblog.Namespace = "acme"
	for got, want := range map[string]string{
		ns.SpecSubject("bob", "export", "ID"):   "acme.log.20.bob.job.export.ID",
		ns.StateSubject("bob", "ID"):            "acme.log.20.bob.state.ID",
		ns.NotificationSubject("a@b.c"):         "acme.log.32.a=40b=2Ec.notification",
		ns.NotificationSubject(jobs.Everyone):   "acme.log.00._all.notification",
		ns.UserSubjects("bob"):                  "acme.log.20.bob.>",
		ns.SpecSubjects("export", "*"):          "acme.log.*.*.job.export.*",
		ns.StateSubjects("ID"):                  "acme.log.*.*.state.ID",
		ns.NotificationSubjects():               "acme.log.*.*.notification",
		ns.LogSubjects():                        "acme.log.>",
		ns.LiveSubjects():                       "acme.live.>",
		ns.LiveSubject("bob"):                   "acme.live.20.bob.>",
		ns.LiveStateSubject("bob", "ID"):        "acme.live.20.bob.state.ID",
		ns.LiveInboxSubject("bob"):              "acme.live.20.bob.inbox",
		ns.PollSubject("N"):                     "acme.poll.N",
		joblog.LiveOf(ns.StateSubject("b", "")): ns.LiveStateSubject("b", ""),
		ns.LogStream():                          "acme_log",
		ns.FilesStream():                        "OBJ_acme_files",
		ns.WorkerConsumer("export"):             "acme-worker-export",
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	// Another user's shard, another number of digits, and what is not hark's.
	for _, subject := range []string{
		"acme.log.21.bob.notification", "acme.log.020.bob.notification", "acme.log.bob.notification", "acme.log.32._all.notification",
		"acme.poll.20.bob.notification", "acme.log.20.bob.other", "log.20.bob.notification", "", "acme", "acme.log", "acme.log.20.",
	} {
		if user, class, ok := joblog.ParseSubject(subject); ok {
			t.Errorf("%q is parsed to %q %q", subject, user, class)
		}
		if a, err := joblog.ParseAddress(subject); err == nil {
			t.Errorf("%q is parsed to %+v", subject, a)
		}
	}
	if n := testing.AllocsPerRun(100, func() { joblog.ParseSubject("acme.log.20.bob.notification") }); n > 0 {
		t.Errorf("ParseSubject allocates %v times", n)
	}
}

func TestLocationCheck(t *testing.T) {
	for _, good := range []joblog.Location{
		{}, {Namespace: "a"}, {Namespace: "9-_x"}, {Namespace: joblog.Namespace(strings.Repeat("a", 31))}, {Domain: "hub"}, {APIPrefix: "JS.shared.API"},
		{APIPrefix: "JS.shared.API."},
	} {
		if err := good.Check(); err != nil {
			t.Errorf("%+v: %v", good, err)
		}
	}
	for _, bad := range []joblog.Location{
		{Namespace: "A"}, {Namespace: "a.b"}, {Namespace: "-a"}, {Namespace: "_a"}, {Namespace: "a b"}, {Namespace: "ä"}, {Namespace: "*"}, {Namespace: ">"},
		{Namespace: "$JS"}, {Namespace: joblog.Namespace(strings.Repeat("a", 32))}, {Domain: "a.b"}, {Domain: "*"}, {Domain: "a b"},
		{Domain: "hub", APIPrefix: "JS.shared.API"}, {APIPrefix: ".a"}, {APIPrefix: "a..b"}, {APIPrefix: "a.>"},
	} {
		if bad.Check() == nil {
			t.Errorf("%+v is accepted", bad)
		}
		if _, err := joblog.Open(t.Context(), &nats.Conn{}, joblog.Options{Location: bad}); err == nil {
			t.Errorf("opened with %+v", bad)
		}
		if _, err := joblog.Setup(t.Context(), &nats.Conn{}, bad, joblog.Settings{}, true); err == nil {
			t.Errorf("set up with %+v", bad)
		}
	}
}
