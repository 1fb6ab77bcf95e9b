package notifier_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/hark-jobs/hark/internal/joblog"
	"github.com/hark-jobs/hark/internal/natstest"
	"github.com/hark-jobs/hark/internal/polltest"
	"github.com/hark-jobs/hark/jobs"
)

// A malformed message that another program has written to the log breaks no list, exposes no job of another user, and is
// counted in the metrics.
func TestPoisonIsCounted(t *testing.T) {
	s := start(t)
	const id = "01JD3Q00000000000000000000"
	for subject, body := range map[string]string{
		defaultNS.SpecSubject("ana", "sleep", id):                `{"id":"` + id + `","kind":"sleep","title":"Salaries","user":"bob","run":1,"max_attempts":1}`,
		defaultNS.StateSubject("ana", id):                        "x",
		"hark.log." + joblog.Shard("a=") + ".a=.job.sleep." + id: "x",
		"hark.log.00.ana.job.sleep." + id:                        `{"id":"` + id + `","kind":"sleep","user":"ana","run":1,"max_attempts":1}`, // in the shard of others
		defaultNS.NotificationSubject("ana"):                     "x",
	} {
		if _, err := s.Queue.Store().JetStream().Publish(natstest.Context(t), subject, []byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	var page struct{ Jobs []jobs.Job }
	for range 2 {
		for path, who := range map[string][]string{
			"/v1/jobs": s.as("ana"), "/v1/jobs?limit=7": s.as("bob"), "/v1/jobs?everyone=true": s.as("root", "admin"),
		} {
			if s.call("GET", path, "", who...).want(200).into(&page); len(page.Jobs) > 0 {
				t.Errorf("%s: %+v", path, page)
			}
		}
		s.call("GET", "/v1/jobs/"+id, "", s.as("ana")...).want(404)
		s.call("GET", "/v1/jobs/"+id, "", s.as("root", "admin")...).want(404)
	}
	for what, n := range map[string]int{"job": 3, "state": 1, "notification": 1, "kind": 0, "live": 0} {
		line := fmt.Sprintf("hark_log_messages_skipped_total{what=%q} %d\n", what, n)
		polltest.Until(t, line, func() bool { return strings.Contains(string(s.call("GET", "/metrics", "").body), line) })
	}
}
