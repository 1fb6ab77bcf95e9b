package notifier_test

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/hark-jobs/hark/internal/natstest"
	"github.com/hark-jobs/hark/jobs"
)

// A notification that another program has written to the log with an unsafe link is sent without the link: in the list,
// live and from the log.
func TestForeignLinksAreLeftOut(t *testing.T) {
	s := start(t)
	bad := []string{"javascript:alert(1)", "JAVASCRIPT:alert(1)", "//evil.example", `/\evil.example`, "/\t/evil.example", "data:text/html,x"}
	live, hello := s.listen("/v1/stream", s.as("ana")...)
	for i, link := range append(bad, "/reports/7") {
		text, err := json.Marshal(link)
		if err != nil {
			t.Fatal(err)
		}
		for j, name := range []string{"link", "LINK", `l\u0069nk`} {
			message := fmt.Appendf(nil, `{"key":"%d-%d","type":"t","title":"link %[1]d","%[3]s":%[4]s,"created_at":"2026-01-02T03:04:05Z"}`, i, j, name, text)
			if _, err := s.Queue.Store().JetStream().Publish(natstest.Context(t), defaultNS.NotificationSubject("ana"), message); err != nil {
				t.Fatal(err)
			}
		}
	}
	good := 0
	check := func(where string, n jobs.Notification) {
		if n.Link == "/reports/7" {
			good++
		} else if n.Link != "" {
			t.Errorf("%s: %q", where, n.Link)
		}
	}
	again, _ := s.listen("/v1/stream?last_event_id="+hello.id, s.as("ana")...)
	var last jobs.Notification
	for where, st := range map[string]*stream{"live": live, "from the log": again} {
		for range 3 * (len(bad) + 1) {
			last = jobs.Notification{} // encoding/json decodes LINK as link, too
			if err := json.Unmarshal([]byte(st.until("notification").data), &last); err != nil {
				t.Fatal(err)
			}
			check(where, last)
		}
	}
	for _, n := range s.inbox("as_of=" + last.ID).Notifications {
		check("list", n)
	}
	if good != 3*3 {
		t.Errorf("the good link came %d times, not 9", good)
	}
}
