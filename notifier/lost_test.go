package notifier_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/hark-jobs/hark/harktest"
	"github.com/hark-jobs/hark/internal/joblog"
	"github.com/hark-jobs/hark/internal/natstest"
	"github.com/hark-jobs/hark/internal/polltest"
	"github.com/hark-jobs/hark/jobs"
)

// tellAna sends a notification to ana, as soon as hark takes it.
func (s *site) tellAna(title string) {
	s.t.Helper()
	body := fmt.Sprintf(`{"user":"ana","type":"test","title":%q,"key":%q}`, title, title)
	polltest.Until(s.t, "a notification is taken", func() bool {
		return s.call("POST", "/v1/notifications", body, s.as("service", "notify")...).StatusCode/100 == 2
	})
}

// inboxOfAna returns the titles in the inbox of ana, with their status.
func (s *site) inboxOfAna() (all []string) {
	s.t.Helper()
	var page struct{ Notifications []jobs.Notification }
	s.call("GET", "/v1/notifications?limit=100", "", s.as("ana")...).into(&page)
	for _, n := range page.Notifications {
		all = append(all, n.Title+" "+string(n.Status))
	}
	return all
}

// ready waits until hark is ready.
func (s *site) ready() {
	s.t.Helper()
	polltest.Until(s.t, "hark is ready", func() bool {
		res, err := s.http.Get(s.URL + "/readyz")
		if err != nil {
			s.t.Fatal(err)
		}
		res.Body.Close()
		return res.StatusCode == http.StatusOK
	})
}

// refusesTicket checks that hark refuses a ticket. It does not read the answer, which is a stream if hark accepts it.
func (s *site) refusesTicket(ticket string) {
	s.t.Helper()
	res := s.open(s.t.Context(), "GET", "/v1/stream?ticket="+ticket, "")
	res.Body.Close()
	if res.StatusCode != http.StatusUnauthorized {
		s.t.Errorf("a stream with the ticket: %s, want 401", res.Status)
	}
}

// loseLog deletes the log while hark runs, and checks that it is made again: readers get a reset, jobs run, notifications
// arrive on streams and in the inboxes, and the inboxes keep what they had.
func loseLog(t *testing.T, sites ...*site) {
	first := sites[0]
	first.tellAna("old")
	for _, s := range sites {
		polltest.Until(t, "the inbox has it", func() bool { return slices.Contains(s.inboxOfAna(), "old unread") })
		s.call("POST", "/v1/notifications/read", "", s.as("ana")...).want(200)
	}
	first.tellAna("unread")
	var streams []*stream
	var last []string
	for _, s := range sites {
		polltest.Until(t, "the inbox has it", func() bool { return slices.Contains(s.inboxOfAna(), "unread unread") })
		st, hello := s.listen("/v1/stream", s.as("ana")...)
		streams, last = append(streams, st), append(last, hello.id)
	}
	log := first.Queue.Store().JetStream()
	if err := log.DeleteStream(natstest.Context(t), defaultNS.LogStream()); err != nil {
		t.Fatal(err)
	}
	for i, s := range sites {
		if bye := streams[i].until("bye"); !strings.Contains(bye.data, "stream_reset") {
			t.Errorf("%+v", bye)
		}
		streams[i], _ = s.listen("/v1/stream?last_event_id="+last[i], s.as("ana")...)
		if e := streams[i].next(); e.name != "reset" {
			t.Errorf("after the reset comes %+v", e)
		}
		s.ready()
	}
	for i, s := range sites {
		var job jobs.Job
		polltest.Until(t, "a job is accepted", func() bool {
			a := s.call("POST", "/v1/jobs", `{"kind":"leave","params":{"name":"n","text":"new"}}`, s.as("ana")...)
			if a.StatusCode == http.StatusAccepted {
				job = a.job()
			}
			return a.StatusCode == http.StatusAccepted
		})
		s.inState("ana", job.ID, jobs.Succeeded)
		if body := s.call("GET", filePath(job), "", s.as("ana")...).want(200).body; string(body) != "new" {
			t.Errorf("the file has %q", body)
		}
		s.tellAna(fmt.Sprint("new ", i))
	}
	for i, s := range sites {
		for title := range titles(len(sites)) {
			for e := streams[i].until("notification"); !strings.Contains(e.data, title); e = streams[i].until("notification") {
			}
			polltest.Until(t, "the inbox has "+title, func() bool { return slices.Contains(s.inboxOfAna(), title+" unread") })
		}
		if got := s.inboxOfAna(); !slices.Contains(got, "old read") || !slices.Contains(got, "unread unread") {
			t.Errorf("the inbox has %q", got)
		}
		s.ready()
	}
}

// titles yields the titles of the new notifications, in order.
func titles(n int) func(func(string) bool) {
	return func(yield func(string) bool) {
		for i := range n {
			if !yield(fmt.Sprint("new ", i)) {
				return
			}
		}
	}
}

func TestLogIsLost(t *testing.T) { loseLog(t, start(t, harktest.Handlers(leave))) }

// Two notifiers, with a worker each, on a cluster.
func TestLogIsLostOnCluster(t *testing.T) {
	servers := natstest.Cluster(t, 3)
	begin := func() *site {
		return start(t, harktest.Handlers(leave), harktest.NATS(strings.Join(servers.URLs(), ",")), harktest.Replicas(3), harktest.Secret(secret))
	}
	loseLog(t, begin(), begin())
}

// Each bucket that is deleted while hark runs is made again, and what hark needs of it is there again.
func TestBucketsAreLost(t *testing.T) {
	s := start(t, harktest.Handlers(leave))
	js, ana, root := s.Queue.Store().JetStream(), s.as("ana"), s.as("root", "admin")
	lose := func(stream string) {
		t.Helper()
		if err := js.DeleteStream(natstest.Context(t), stream); err != nil {
			t.Fatal(err)
		}
	}
	const leaveOne = `{"kind":"leave","params":{"name":"n","text":"0123456789"}}`
	old := s.finish("ana", leaveOne)

	lose(joblog.BucketStream(defaultNS.KindsBucket()))
	polltest.Until(t, "the kind is published again", func() bool {
		kinds, err := js.KeyValue(t.Context(), defaultNS.KindsBucket())
		if err != nil {
			return false
		}
		_, err = kinds.Get(t.Context(), "leave")
		return err == nil
	})
	s.finish("ana", leaveOne)

	lose(joblog.BucketStream(defaultNS.TicketsBucket()))
	var issued struct{ Ticket string }
	s.call("POST", "/v1/stream/ticket", "", ana...).into(&issued)
	lose(joblog.BucketStream(defaultNS.TicketsBucket()))
	s.refusesTicket(issued.Ticket)
	s.call("POST", "/v1/stream/ticket", "", ana...).into(&issued)
	s.listen("/v1/stream?ticket=" + issued.Ticket)

	s.call("POST", "/v1/revocations", `{"user":"eve"}`, root...).want(201)
	eve := s.as("eve")
	lose(joblog.BucketStream(defaultNS.RevokedBucket()))
	s.call("GET", "/v1/jobs", "", eve...).problem(401, "token_revoked")
	s.call("POST", "/v1/revocations", `{"user":"mallory"}`, root...).want(201)
	polltest.Until(t, "both revocations are stored", func() bool {
		revoked, err := js.KeyValue(t.Context(), defaultNS.RevokedBucket())
		if err != nil {
			return false
		}
		keys, err := revoked.Keys(t.Context())
		return err == nil && len(keys) == 2
	})
	s.call("GET", "/v1/jobs", "", eve...).problem(401, "token_revoked")

	var link struct{ URL string }
	s.call("POST", filePath(old)+"/link", "", ana...).into(&link)
	key := func() string {
		bucket, err := js.KeyValue(t.Context(), defaultNS.LinkBucket())
		if err != nil {
			return ""
		}
		entry, err := bucket.Get(t.Context(), "key")
		if err != nil {
			return ""
		}
		return string(entry.Value())
	}
	before := key()
	lose(joblog.BucketStream(defaultNS.LinkBucket()))
	polltest.Until(t, "the same key is stored again", func() bool { return key() == before })
	s.call("GET", "/"+link.URL, "").want(200)

	lose(defaultNS.FilesStream())
	s.call("GET", filePath(old), "", ana...).problem(410, "file_gone")
	fresh := s.finish("ana", leaveOne)
	s.call("GET", filePath(fresh), "", ana...).want(200)
	s.ready()
}
