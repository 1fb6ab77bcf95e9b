package notifier_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hark-jobs/hark/internal/natstest"
	"github.com/hark-jobs/hark/internal/polltest"
	"github.com/hark-jobs/hark/jobs"
	"github.com/nats-io/nats.go/jetstream"
)

type inboxPage struct {
	Notifications []jobs.Notification
	Unread        int
	Next          *string
}

// notify stores a notification for ana.
func (s *site) notify(body string) (n jobs.Notification) {
	s.t.Helper()
	s.call("POST", "/v1/notifications", body, s.as("service", "notify")...).want(201).into(&n)
	return n
}

func (s *site) inbox(query string) (page inboxPage) {
	s.t.Helper()
	s.call("GET", "/v1/notifications?"+query, "", s.as("ana")...).into(&page)
	return page
}

func (a answer) unread(want int) {
	a.t.Helper()
	var out struct{ Unread *int }
	if a.into(&out); out.Unread == nil || *out.Unread != want {
		a.t.Errorf("%s: %s, want %d unread", a.call, a.body, want)
	}
}

// A page opens the stream, and then lists the inbox. The list has everything that was stored before its hello.
func TestListAsOf(t *testing.T) {
	s := start(t)
	for range 20 {
		n := s.notify(`{"user":"ana","type":"test","title":"just now"}`)
		if page := s.inbox("limit=1&as_of=" + n.ID); len(page.Notifications) != 1 || page.Notifications[0].ID != n.ID {
			t.Fatalf("as of %s: %+v", n.ID, page)
		}
	}
	// The position of a stream waits for both marks.
	stream, hello := s.listen("/v1/stream", s.as("ana")...)
	for i := range 20 {
		to := `"everyone":true` // several one after another, since the inbox ingests the first one without delay
		if i%4 == 0 {
			to = `"user":"ana"`
		}
		n := s.notify(`{` + to + `,"type":"test","title":"on the stream"}`)
		e := stream.until("notification")
		if page := s.inbox("limit=1&as_of=" + e.id); len(page.Notifications) != 1 || page.Notifications[0].ID != n.ID {
			t.Fatalf("as of %s: %+v", e.id, page)
		}
	}
	s.call("POST", "/v1/notifications/read", `{"up_to":"`+hello.id+`"}`, s.as("ana")...).problem(400, "field_invalid")
	s.call("GET", "/v1/notifications?as_of=soon", "", s.as("ana")...).problem(400, "field_invalid")
}

// The id of hello may be that of a job's state, which no inbox ingests. A list as of that id does not wait for it.
func TestListAsOfWaitsForNotificationsAlone(t *testing.T) {
	s := start(t)
	n := s.notify(`{"user":"ana","type":"test","title":"before the jobs"}`)
	s.enqueue("bob", `{"kind":"sleep","params":{"seconds":600}}`)
	began := time.Now()
	for range 20 {
		s.enqueue("ana", `{"kind":"sleep","params":{"seconds":600}}`) // each state is written to the log
		stream, hello := s.listen("/v1/stream", s.as("ana")...)
		stream.body.Close()
		if page := s.inbox("as_of=" + hello.id); len(page.Notifications) != 1 || page.Notifications[0].ID != n.ID {
			t.Fatalf("as of %s: %+v", hello.id, page)
		}
		s.call("POST", "/v1/notifications/read", `{"up_to":"`+n.ID+`"}`, s.as("ana")...).unread(0)
	}
	if took := time.Since(began); took > 40*time.Second { // 80 s if each waits for the timeout of 2 s
		t.Errorf("20 lists and 20 marks took %v", took)
	}
}

// Future notifications cannot be marked as read.
func TestMarkUpToWhatIsNotStored(t *testing.T) {
	s := start(t)
	n := s.notify(`{"user":"ana","type":"test","title":"the last one"}`)
	id, err := jobs.ParseNotificationID(n.ID)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []jobs.NotificationID{{Epoch: id.Epoch, Seq: id.Seq + 100}, {Epoch: id.Epoch + 1, Seq: 1}} {
		s.call("POST", "/v1/notifications/read", `{"up_to":"`+id.String()+`"}`, s.as("ana")...).problem(404, "notification_not_found")
	}
}

func TestInbox(t *testing.T) {
	s := start(t)
	ana := s.as("ana")
	if page := s.inbox(""); page.Notifications == nil || len(page.Notifications) != 0 || page.Next != nil {
		t.Errorf("an empty inbox is %+v", page)
	}
	s.call("POST", "/v1/notifications/read", "{}", ana...).unread(0)
	var ids []string
	for i := range 7 {
		n := s.notify(fmt.Sprintf(`{"user":"ana","type":"test","title":"%d","body":"b","link":"/x","data":{"n":%d}}`, i, i))
		if n.ID == "" || n.Key == "" || n.Status != jobs.Unread || string(n.Data) != fmt.Sprintf(`{"n":%d}`, i) {
			t.Errorf("%+v", n)
		}
		ids = append(ids, n.ID)
	}
	// The inbox may not have ingested the notifications yet. Marking waits for that.
	s.call("POST", "/v1/notifications/"+ids[6]+"/read", "", ana...).unread(6)
	s.call("POST", "/v1/notifications/"+ids[6]+"/read", "", ana...).unread(6)
	fresh := s.notify(`{"user":"ana","type":"test","title":"fresh"}`)
	s.call("DELETE", "/v1/notifications/"+fresh.ID, "", ana...).unread(6)
	s.call("DELETE", "/v1/notifications/"+fresh.ID, "", ana...).problem(404, "notification_not_found")
	s.call("POST", "/v1/notifications/"+fresh.ID+"/read", "", ana...).problem(404, "notification_not_found")
	// Other users do not see it.
	s.call("POST", "/v1/notifications/"+ids[0]+"/read", "", s.as("bob")...).problem(404, "notification_not_found")
	s.call("DELETE", "/v1/notifications/"+ids[0], "", s.as("bob", "notify", "admin")...).problem(404, "notification_not_found")

	var got []string
	for before := ""; ; {
		page := s.inbox("limit=3&before=" + before)
		for _, n := range page.Notifications {
			got = append(got, n.ID)
			if (n.Status == jobs.Read) != (n.ID == ids[6]) || (n.Status == jobs.Read) == n.ReadAt.IsZero() {
				t.Errorf("%+v", n)
			}
		}
		if page.Next == nil {
			break
		}
		before = *page.Next
	}
	want := slices.Clone(ids)
	slices.Reverse(want)
	if !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if page := s.inbox("status=unread"); len(page.Notifications) != 6 || page.Unread != 6 {
		t.Errorf("%+v", page)
	}
	s.call("POST", "/v1/notifications/read", `{"up_to":"`+ids[2]+`"}`, ana...).unread(3)
	late := s.notify(`{"user":"ana","type":"test","title":"late"}`)
	s.call("POST", "/v1/notifications/read", `{"up_to":"`+late.ID+`"}`, ana...).unread(0)
	s.notify(`{"user":"ana","type":"test","title":"last"}`)
	s.call("POST", "/v1/notifications/read", "", ana...).unread(0)
	if page := s.inbox("status=unread"); len(page.Notifications) != 0 {
		t.Errorf("%+v", page)
	}
}

// One request stores several notifications in their order, and none if one is invalid.
func TestNotifySeveral(t *testing.T) {
	s := start(t)
	service := s.as("service", "notify")
	post := func(body string) answer { return s.call("POST", "/v1/notifications", body, service...) }
	var items []string
	for i := range 300 { // more than one window of publishes
		items = append(items, fmt.Sprintf(`{"user":"ana","type":"test","title":"%d","key":"key-%d"}`, i, i))
	}
	several := `{"notifications":[` + strings.Join(items, ",") + `]}`
	var first, again struct{ Notifications []jobs.Notification }
	post(several).want(201).into(&first)
	if len(first.Notifications) != len(items) {
		t.Fatalf("%d notifications are answered for %d", len(first.Notifications), len(items))
	}
	before := jobs.NotificationID{}
	for i, n := range first.Notifications {
		id, err := jobs.ParseNotificationID(n.ID)
		if err != nil || id.Seq <= before.Seq || n.Title != fmt.Sprint(i) || n.Status != jobs.Unread {
			t.Fatalf("notification %d, after %s, is %+v", i, before, n)
		}
		before = id
	}
	// A repeated request, as after a lost response, returns the same notifications.
	post(several).want(200).into(&again)
	for i, n := range again.Notifications {
		if n.ID != first.Notifications[i].ID {
			t.Fatalf("notification %d was %s and is %s", i, first.Notifications[i].ID, n.ID)
		}
	}
	// If one is invalid, the problem names it, and nothing is stored.
	post(`{"notifications":[{"user":"ana","type":"test","title":"fine"},{"user":"ana","type":"test"}]}`).problem(400, "invalid_request")
	// If one cannot be stored, the problem names it, and the others are stored.
	p := post(`{"notifications":[{"everyone":true,"type":"test","title":"all"},{"user":"ana","type":"test","title":"other","key":"key-1"}]}`).problem(409, "key_reused")
	if p.Field != "notifications[1]" {
		t.Errorf("the problem is with %q", p.Field)
	}
	s.call("POST", "/v1/notifications", several, s.as("ana")...).problem(403, "scope_missing")
	last := s.notify(`{"user":"ana","type":"test","title":"last"}`)
	page := s.inbox("as_of=" + last.ID)
	if page.Unread != 302 || page.Notifications[1].Title != "all" || page.Notifications[2].ID != before.String() {
		t.Errorf("%d unread, behind %+v", page.Unread, page.Notifications[:3])
	}
}

// The inbox keeps notifications longer than the stream does. Marking all as read includes those.
func TestReadAllAfterStreamHasForgotten(t *testing.T) {
	s := start(t)
	n := s.notify(`{"user":"ana","type":"test","title":"old"}`)
	polltest.Until(t, "the inbox has it", func() bool { return s.inbox("").Unread == 1 })
	log, err := s.Queue.Store().JetStream().Stream(natstest.Context(t), defaultNS.LogStream())
	if err == nil {
		err = log.Purge(natstest.Context(t), jetstream.WithPurgeSubject(defaultNS.NotificationSubject("ana")))
	}
	if err != nil {
		t.Fatal(err)
	}
	s.call("POST", "/v1/notifications/read", "{}", s.as("ana")...).unread(0)
	s.call("DELETE", "/v1/notifications/"+n.ID, "", s.as("ana")...).unread(0)
}

func TestNotify(t *testing.T) {
	s := start(t)
	service := s.as("service", "notify")
	const body = `{"user":"ana","type":"paid","title":"Paid","key":"invoice 7/ü"}`
	for _, headers := range [][]string{s.as("ana"), s.as("ana", "admin"), s.as("ana", "notif")} {
		s.call("POST", "/v1/notifications", body, headers...).problem(403, "scope_missing")
	}
	var first, again jobs.Notification
	s.call("POST", "/v1/notifications", body, service...).want(201).into(&first)
	s.call("POST", "/v1/notifications", body, service...).want(200).into(&again)
	x, _ := json.Marshal(first)
	if y, _ := json.Marshal(again); string(x) != string(y) {
		t.Errorf("%s, then %s", x, y)
	}
	s.call("POST", "/v1/notifications", `{"user":"ana","type":"paid","title":"Unpaid","key":"invoice 7/ü"}`, service...).problem(409, "key_reused")
	s.call("POST", "/v1/notifications", `{"user":"bob","type":"paid","title":"Paid","key":"invoice 7/ü"}`, service...).want(201)

	everyone := s.notify(`{"everyone":true,"type":"news","title":"News"}`)
	for _, user := range []string{"ana", "newcomer"} {
		s.call("POST", "/v1/notifications/"+everyone.ID+"/read", "", s.as(user)...).want(200)
	}
	polltest.Until(t, "ana has both", func() bool { return len(s.inbox("").Notifications) == 2 })
	if page := s.inbox("status=unread"); len(page.Notifications) != 1 || page.Notifications[0].ID != first.ID {
		t.Errorf("%+v", page)
	}
	s.call("DELETE", "/v1/notifications/"+everyone.ID, "", s.as("ana")...).unread(1)
	var bobs inboxPage
	if s.call("GET", "/v1/notifications?status=unread", "", s.as("bob")...).into(&bobs); len(bobs.Notifications) != 2 {
		t.Errorf("what ana did changed what bob has: %+v", bobs)
	}
}
