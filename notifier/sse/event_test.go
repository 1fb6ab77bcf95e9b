package sse_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/hark-jobs/hark/internal/joblog"
	"github.com/hark-jobs/hark/internal/logtest"
	"github.com/hark-jobs/hark/internal/natstest"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/notifier/sse"
)

// TestLargeMessagesOfOthersAreSkipped checks that no event is larger than a backlog. A larger message that another program
// writes to the log reaches no stream, neither live nor from the log, and is counted and logged. All other messages arrive in
// order.
func TestLargeMessagesOfOthersAreSkipped(t *testing.T) {
	each(t, func(t *testing.T, w way) {
		var log logtest.Buffer
		s := newSystem(t, w, sse.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		r := s.open("ana", "")
		r.expect("hello")
		huge := strings.Repeat("x", 100<<10)
		write := func(subject string, v any) {
			t.Helper()
			text, err := json.Marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.queue.Conn().Request(subject, text, patience); err != nil {
				t.Fatal(err)
			}
		}
		first := s.notify("ana", "first")
		job := jobs.Job{ID: jobID, User: "ana", Kind: "k", Title: huge, State: jobs.Running, Run: 1}
		write(defaultNS.NotificationSubject("ana"), map[string]string{"key": "1", "title": huge})
		write(defaultNS.NotificationSubject(jobs.Everyone), map[string]string{"key": "2", "title": huge})
		write(defaultNS.SpecSubject("ana", "k", jobID), joblog.Spec{ID: jobID, User: "ana", Kind: "k", Title: huge, Run: 1})
		write(defaultNS.StateSubject("ana", jobID), &job)
		if err := s.queue.Conn().Publish(defaultNS.LiveInboxSubject("ana"), fmt.Appendf(nil, "{%q:1}", huge)); err != nil {
			t.Fatal(err)
		}
		job.Title = "small"
		s.put(&job, last(t, s))
		s.notify("ana", "end")
		want := []string{"notification first", "job small", "notification end"}
		for range 2 {
			var got []string
			for _, e := range r.until(titled(t, "end")) {
				if e.name == "hello" {
					continue
				}
				if len(e.data) > 64<<10 {
					t.Errorf("an event %s has %d bytes", e.name, len(e.data))
				}
				got = append(got, e.name+" "+decode[struct{ Title string }](t, e.data).Title)
			}
			if len(got) == 2 { // a job that stands in the log from before is not read again
				got = []string{got[0], want[1], got[1]}
			}
			if strings.Join(got, ",") != strings.Join(want, ",") {
				t.Fatalf("got %.300q, want %q", got, want)
			}
			first.Seq--
			r = s.open("ana", after(first))
		}
		if n := s.hub.Skipped(); n < 7 { // five live, and two notifications from the log
			t.Errorf("%d were counted", n)
		}
		if text := log.String(); !strings.Contains(text, "message skipped") || !strings.Contains(text, "more than 64 KiB") || !strings.Contains(text, "ana") {
			t.Errorf("logged %.500s", text)
		}
	})
}

// last returns the sequence of the last message in the log.
func last(t testing.TB, s *system) uint64 {
	t.Helper()
	_, last, err := s.queue.Bounds(natstest.Context(t), 0)
	if err != nil {
		t.Fatal(err)
	}
	return last
}
