package sse_test

import (
	"bufio"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hark-jobs/hark/internal/joblog"
	"github.com/hark-jobs/hark/internal/natstest"
	"github.com/hark-jobs/hark/internal/polltest"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/notifier/sse"
	"github.com/nats-io/nats.go"
)

// listen opens a stream that listens to topics, and returns it after its hello event.
func (s *system) listen(user, lastID string, topics ...string) *reader {
	s.t.Helper()
	r := s.open(user, lastID, "Topics", strings.Join(topics, " "))
	r.expect("hello")
	return r
}

// number returns the topic and the data of a live event.
func number(t testing.TB, e event) string {
	t.Helper()
	if e.name != "live" {
		t.Fatalf("got %+v, want a live event", e)
	}
	live := decode[jobs.LiveEvent](t, e.data)
	return live.Topic + " " + string(live.Data)
}

// missed returns the topics of a missed event.
func missed(t testing.TB, e event) []string {
	t.Helper()
	if e.name != "missed" {
		t.Fatalf("got %+v, want a missed event", e)
	}
	return decode[struct{ Topics []string }](t, e.data).Topics
}

// expectOne returns the next event, which must have one of two names.
func (r *reader) expectOne(name, other string) event {
	r.t.Helper()
	e, ok := r.next()
	if !ok || e.name != name && e.name != other {
		r.t.Fatalf("expected %s or %s, got %+v (open: %v)", name, other, e, ok)
	}
	return e
}

// A live event reaches the streams that listen to its topic, in the order of publishing, and nobody else.
func TestLiveEvents(t *testing.T) {
	each(t, func(t *testing.T, w way) {
		s := newSystem(t, w, sse.Options{})
		ana := s.listen("ana", "", "comments.1", "comments.2", jobs.TopicUser)
		bob := s.listen("bob", "", "comments.2", jobs.TopicUser, jobs.TopicAll)
		deaf := s.open("ana", "")
		deaf.expect("hello")
		s.publish("comments.1", 1)
		s.publish("comments.2", 2)
		s.publish("comments.3", 3)
		s.publish(jobs.UserTopic("ana"), 4)
		s.publish(jobs.UserTopic("bob"), 5)
		s.publish(jobs.TopicAll, 6)
		s.publish("comments.2", 7)
		for _, want := range []string{"comments.1 1", "comments.2 2", "_user 4", "comments.2 7"} {
			if got := number(t, ana.expect("live")); got != want {
				t.Errorf("ana got %q, want %q", got, want)
			}
		}
		for _, want := range []string{"comments.2 2", "_user 5", "_all 6", "comments.2 7"} {
			if got := number(t, bob.expect("live")); got != want {
				t.Errorf("bob got %q, want %q", got, want)
			}
		}
		id := s.notify("ana", "stored")
		for _, r := range []*reader{ana, deaf} {
			if e := r.expect("notification"); decode[jobs.Notification](t, e.data).ID != id.String() {
				t.Errorf("the notification is %s, want %s", e.data, id)
			}
		}
		if stored := s.log("ana", 0); len(stored) != 1 {
			t.Errorf("%d messages are stored, want the notification alone", len(stored))
		}
		ana.close()
		bob.close()
		polltest.Until(t, "no topic has a subscription after its last listener", func() bool { return s.hub.Topics() == 0 && s.hub.Open() <= 1 })
	})
}

// An event for more streams than are served at a time reaches all of them in order, also while streams come and go and
// notifications arrive.
func TestLiveEventsForMany(t *testing.T) {
	each(t, func(t *testing.T, w way) {
		s := newSystem(t, w, sse.Options{})
		var readers []*reader
		for i := range 150 {
			readers = append(readers, s.listen(fmt.Sprint("user", i), "", "board"))
		}
		var others sync.WaitGroup
		others.Go(func() {
			for i := range 30 {
				s.listen(fmt.Sprint("user", i), "", "board", "other").close()
			}
		})
		const events = 40
		for i := range events {
			s.publish("board", i)
			if i%10 == 0 {
				s.notify(fmt.Sprint("user", i), "between")
			}
		}
		others.Wait()
		for n, r := range readers {
			for i := 0; i < events; {
				e, _ := r.next()
				if e.name == "notification" {
					continue
				}
				if got, want := number(t, e), fmt.Sprint("board ", i); got != want {
					t.Fatalf("user%d got %q, want %q", n, got, want)
				}
				i++
			}
		}
	})
}

// A stream that resumes has missed what its topics had meanwhile, and says so.
func TestMissedAfterResume(t *testing.T) {
	each(t, func(t *testing.T, w way) {
		s := newSystem(t, w, sse.Options{})
		r := s.listen("ana", "", "b", "a", jobs.TopicUser)
		r.close()
		s.publish("a", 1)
		r = s.listen("ana", r.last, "b", "a", jobs.TopicUser)
		if got, want := missed(t, r.expect("missed")), []string{"_user", "a", "b"}; !slices.Equal(sorted(got), want) {
			t.Errorf("missed %q, want %q", got, want)
		}
		s.publish("a", 2)
		for e := r.expectOne("live", "missed"); e.name == "missed" || number(t, e) != "a 2"; e = r.expectOne("live", "missed") {
			continue // the hub may have been late with the first event
		}
		without := s.open("ana", r.last)
		without.expect("hello")
		s.notify("ana", "next")
		without.expect("notification") // and no missed event
	})
}

func sorted(list []string) []string { slices.Sort(list); return list }

// After a lost connection to NATS every stream with topics gets a missed event.
func TestMissedAfterReconnect(t *testing.T) {
	each(t, func(t *testing.T, w way) {
		s := newSystem(t, w, sse.Options{})
		r, without := s.listen("ana", "", "a"), s.open("ana", "")
		without.expect("hello")
		s.proxy.cut()
		s.publish("a", 1)
		s.proxy.restore()
		if got := missed(t, r.expect("missed")); !slices.Equal(got, []string{"a"}) {
			t.Errorf("missed %q, want a", got)
		}
		s.publish("a", 2)
		if got := number(t, r.expect("live")); got != "a 2" {
			t.Errorf("got %q, want a 2", got)
		}
		s.notify("ana", "next")
		without.expect("notification")
	})
}

// Events that NATS drops, since the hub is too busy, are missed. The stream says so before it gets a later one.
func TestMissedAfterDrop(t *testing.T) {
	each(t, func(t *testing.T, w way) {
		s := newSystem(t, w, sse.Options{}, func(s *system) { s.hub.SetEventBuffer(2); s.mute.Store(true) })
		r, other := s.listen("ana", "", "a"), s.listen("ana", "", "b")
		dropped := s.hub.EventsDropped("a")
		release := s.hub.PauseDelivery()
		for i := range 20 {
			s.publish("a", i)
		}
		polltest.Until(t, "NATS has dropped some", func() bool { return dropped() > 0 })
		release()
		s.publish("a", 20)
		got := 0
		for e := r.expectOne("live", "missed"); e.name != "missed"; e = r.expectOne("live", "missed") {
			if got++; number(t, e) == "a 20" {
				t.Fatal("a later event came before the missed event")
			}
		}
		if got >= 20 {
			t.Errorf("%d events came, and a missed event", got)
		}
		if err := s.hubConn.FlushWithContext(natstest.Context(t)); err != nil { // all of them have arrived
			t.Fatal(err)
		}
		polltest.Until(t, "there is room again", func() bool { return s.hub.WaitingEvents() == 0 })
		s.publish("b", 1)
		if got := number(t, other.expect("live")); got != "b 1" {
			t.Errorf("the other topic got %q, want b 1", got)
		}
	})
}

// A reader that is too slow for its live events misses some. Its stream stays open, and it gets all notifications.
func TestMissedBySlowReader(t *testing.T) {
	for _, ordinary := range []bool{false, true} {
		t.Run(fmt.Sprintf("ordinary %t", ordinary), func(t *testing.T) {
			t.Parallel()
			s := newSystem(t, smallBuffers(ordinary), sse.Options{})
			conn := s.openDeafTo("ana", "", "a")
			polltest.Until(t, "open", func() bool { return s.hub.Topics() == 1 })
			data := fmt.Appendf(nil, "%q", strings.Repeat("x", 4<<10))
			ctx := natstest.Context(t)
			for range 200 {
				if err := s.queue.PublishEvent(ctx, jobs.LiveEvent{Topic: "a", Type: "large", Data: data}); err != nil {
					t.Fatal(err)
				}
			}
			polltest.Until(t, "the connection has no room", func() bool { return s.hub.FullStreams() == 1 })
			id := s.notify("ana", "end")
			conn.SetReadDeadline(time.Now().Add(patience))
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			large, wasMissed, end := 0, false, false
			err = parse(resp.Body, func(e event) {
				switch e.name {
				case "live":
					large++
				case "missed":
					wasMissed = wasMissed || slices.Equal(missed(t, e), []string{"a"})
				case "notification":
					end = end || e.name == "notification" && decode[jobs.Notification](t, e.data).ID == id.String()
				}
				if wasMissed && end {
					conn.Close()
				}
			})
			if !wasMissed || !end || large == 0 || large >= 200 {
				t.Errorf("missed: %v, notification: %v, %d live events of 200; %v", wasMissed, end, large, err)
			}
		})
	}
}

// A malformed message on a topic is skipped and counted, and what comes after it arrives.
func TestMalformedLiveEvents(t *testing.T) {
	t.Parallel()
	s := newSystem(t, ways[0], sse.Options{})
	r := s.listen("ana", "", "a")
	for _, text := range []string{"", "x", "[]", `{"data":1}`, `{"type":"a b"}`, `{"type":"x","data":` + strings.Repeat(" ", 100<<10) + `1}`} {
		if err := s.queue.Conn().Publish(defaultNS.TopicSubject("a"), []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	s.publish("a", 7)
	if got := number(t, r.expect("live")); got != "a 7" {
		t.Errorf("got %q, want a 7", got)
	}
	if n := s.hubQueue.Skipped()[joblog.SkippedEvent]; n != 6 {
		t.Errorf("%d messages were skipped, want 6", n)
	}
}

// beats is what the hubs on a NATS server publish.
type beats struct {
	t   testing.TB
	sub *nats.Subscription
}

func hearBeats(t testing.TB, nc *nats.Conn) beats {
	t.Helper()
	sub, err := nc.SubscribeSync(defaultNS.HubsSubject())
	if err == nil {
		err = nc.Flush()
	}
	if err != nil {
		t.Fatal(err)
	}
	return beats{t, sub}
}

// await waits for n beats of every one of hubs different hubs, and for a goodbye if bye is true.
func (b beats) await(hubs, n int, bye bool) {
	b.t.Helper()
	counts, said := make(map[string]int), false
	for {
		m, err := b.sub.NextMsg(patience)
		if err != nil {
			b.t.Fatalf("%d hubs, want %d with %d beats: %v", len(counts), hubs, n, err)
		}
		beat := decode[struct {
			Hub string
			Bye bool
		}](b.t, string(m.Data))
		counts[beat.Hub]++
		said = said || beat.Bye
		enough := 0
		for _, have := range counts {
			if have >= n {
				enough++
			}
		}
		if enough >= hubs && said == bye {
			return
		}
	}
}

// A hub that becomes silent may have been cut off with the services beside it: streams with topics get a missed event.
func TestSilentHub(t *testing.T) {
	t.Parallel()
	s := newSystem(t, ways[0], sse.Options{})
	other := s.another(sse.Options{})
	r := s.listen("ana", "", "a")
	hearBeats(t, s.queue.Conn()).await(2, 2, false)
	other.proxy.cut()
	if got := missed(t, r.expect("missed")); !slices.Equal(got, []string{"a"}) {
		t.Errorf("missed %q, want a", got)
	}
}

// A hub that closes says goodbye, and nothing is missed.
func TestHubSaysGoodbye(t *testing.T) {
	t.Parallel()
	s := newSystem(t, ways[0], sse.Options{})
	other := s.another(sse.Options{})
	r := s.listen("ana", "", "a")
	heard := hearBeats(t, s.queue.Conn())
	heard.await(2, 2, false)
	other.stop()
	heard.await(1, 1, true)
	heard.await(1, 5, false) // by then a silent hub would have been noticed
	s.publish("a", 1)
	if got := number(t, r.expect("live")); got != "a 1" {
		t.Errorf("got %q, want a 1", got)
	}
}

// A poll with other topics than before goes on with them.
func TestPollChangesTopics(t *testing.T) {
	s := newPolled(t, sse.Options{})
	p := s.polling("ana", "")
	p.Topics = []string{"a"}
	p.open()
	s.publish("a", 1)
	if got := number(t, p.next()[0]); got != "a 1" {
		t.Errorf("got %q, want a 1", got)
	}
	p.Topics = []string{"a", "b"}
	if got := p.next(); len(got) != 2 || got[0].name != "hello" || !slices.Equal(missed(t, got[1]), []string{"a", "b"}) {
		t.Errorf("got %+v, want hello, and that a and b were missed", got)
	}
	s.publish("b", 2)
	if got := number(t, p.next()[0]); got != "b 2" {
		t.Errorf("got %q, want b 2", got)
	}
}
