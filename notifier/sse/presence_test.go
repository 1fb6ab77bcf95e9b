package sse_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hark-jobs/hark/internal/natstest"
	"github.com/hark-jobs/hark/internal/polltest"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/notifier/sse"
)

// presence returns who listens to a topic, once the hub knows the other hubs. A machine that stands still for a second is no failure.
func (s *system) presence(topic, user string) (p jobs.Presence) {
	s.t.Helper()
	polltest.Nil(s.t, "the hub answers who listens to "+topic, func() (err error) {
		p, err = s.hub.Presence(natstest.Context(s.t), topic, user)
		return err
	})
	return p
}

func summary(p jobs.Presence) string {
	return fmt.Sprintf("%s: %d streams of %d users: %s, complete %v", p.Topic, p.Streams, p.Users, strings.Join(p.Listeners, " "), p.Complete)
}

// twoHubs returns two hubs on one NATS server that know each other.
func twoHubs(t *testing.T, w way, o sse.Options, prepare ...func(*system)) (one, two *system) {
	t.Helper()
	prepare = append(prepare, func(s *system) { s.hub.SetLeaveGrace(10 * time.Millisecond) })
	one = newSystem(t, w, o, prepare...)
	two = one.another(o, prepare...)
	polltest.Until(t, "the hubs know each other", func() bool { return one.hub.KnownHubs() == 1 && two.hub.KnownHubs() == 1 })
	return one, two
}

// Each hub answers who listens to a topic at all hubs. Several streams of a user are one user.
func TestPresence(t *testing.T) {
	each(t, func(t *testing.T, w way) {
		one, two := twoHubs(t, w, sse.Options{})
		one.listen("ana", "", "room.1", jobs.TopicUser)
		one.listen("ana", "", "room.1")
		two.listen("ana", "", "room.1", jobs.TopicUser)
		two.listen("bo@b.c", "", "room.1", jobs.TopicUser)
		last := two.listen("cyd", "", "room.1", "room.2")
		two.open("dan", "").expect("hello")
		for _, s := range []*system{one, two} {
			for topic, want := range map[string]string{
				"room.1":       "room.1: 5 streams of 3 users: ana bo@b.c cyd, complete true",
				"room.2":       "room.2: 1 streams of 1 users: cyd, complete true",
				"room.3":       "room.3: 0 streams of 0 users: , complete true",
				jobs.TopicUser: "_user: 2 streams of 1 users: ana, complete true",
			} {
				polltest.Nil(t, "both hubs answer who listens to "+topic, func() error {
					if got := summary(s.presence(topic, "ana")); got != want {
						return fmt.Errorf("got  %s\nwant %s", got, want)
					}
					return nil
				})
			}
		}
		last.close()
		polltest.Until(t, "a user who has closed the stream is gone", func() bool {
			return summary(one.presence("room.1", "ana")) == "room.1: 4 streams of 2 users: ana bo@b.c, complete true"
		})
		two.stop()
		polltest.Until(t, "a hub that is closed is not waited for", func() bool {
			return summary(one.presence("room.1", "ana")) == "room.1: 2 streams of 1 users: ana, complete true"
		})
		if _, err := two.hub.Presence(t.Context(), "room.1", "ana"); err == nil {
			t.Error("a hub that is closed has answered")
		}
	})
}

// More users than a message between hubs has are all counted.
func TestPresenceOfMany(t *testing.T) {
	s := newSystem(t, ways[0], sse.Options{})
	const users = 2100
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var polls sync.WaitGroup
	defer polls.Wait()
	defer cancel()
	for i := range users {
		polls.Go(func() {
			_, _ = s.hub.Poll(ctx, sse.Poll{Subscriber: sse.Subscriber{User: fmt.Sprint("user", i), Topics: []string{"room"}}, Wait: time.Second})
		})
	}
	polltest.Until(t, "all users are there", func() bool {
		p, err := s.hub.Presence(natstest.Context(t), "room", "ana") // an error while the machine is too busy for an answer within a second
		return err == nil && p.Users == users && p.Streams == users && len(p.Listeners) == users
	})
}

// The longest names fit into the messages between hubs, also those that are escaped byte by byte.
func TestPresenceOfLongNames(t *testing.T) {
	one, two := twoHubs(t, ways[0], sse.Options{Announced: announced, PollIdle: time.Hour})
	ana := one.watch("ana", "room.1")
	want := []string{"ana"}
	for i := range 320 {
		user := fmt.Sprintf("%s%03d", strings.Repeat("é", 598), i)
		want = append(want, user)
		p := sse.Poll{Subscriber: sse.Subscriber{User: user, Topics: []string{"room.1"}}}
		if _, err := two.hub.Poll(natstest.Context(t), p); err != nil {
			t.Fatal(err)
		}
	}
	ana.sees(want...)
	polltest.Nil(t, "all users are counted", func() error {
		if p := one.presence("room.1", "ana"); p.Users != len(want) || !p.Complete {
			return fmt.Errorf("%d users, complete %v, want %d", p.Users, p.Complete, len(want))
		}
		return nil
	})
}

// The answer is never from before the call, also if an earlier question about the topic is still under way: here it waits for a hub
// that does not answer.
func TestPresenceIsCurrent(t *testing.T) {
	one, two := twoHubs(t, ways[0], sse.Options{})
	two.proxy.cut()
	var callers sync.WaitGroup
	defer callers.Wait()
	ask := func() { _, _ = one.hub.Presence(natstest.Context(t), "room", "ana") }
	for i := range 3 {
		callers.Go(ask)
		user := fmt.Sprint("user", i)
		one.listen(user, "", "room")
		if p := one.presence("room", "ana"); !slices.Contains(p.Listeners, user) {
			t.Errorf("%s listens and is not among %s", user, p.Listeners)
		}
	}
}

// While a hub does not answer, the others say that their answer is not complete.
func TestPresenceWithoutAHub(t *testing.T) {
	one, two := twoHubs(t, ways[0], sse.Options{})
	one.listen("ana", "", "room")
	two.listen("bo", "", "room")
	two.proxy.cut()
	if got, want := summary(one.presence("room", "ana")), "room: 1 streams of 1 users: ana, complete false"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	polltest.Until(t, "the hub is taken for gone", func() bool { return one.presence("room", "ana").Complete })
	two.proxy.restore()
	polltest.Until(t, "the hub answers again", func() bool { return one.presence("room", "ana").Streams == 2 })
}

// watcher is a page that shows who listens to a topic: it fetches that when its stream has begun and after each missed event, and
// applies the events join and leave.
type watcher struct {
	*reader
	s      *system
	topic  string
	users  map[string]bool
	events []string // the changes, such as "join bo"
}

func (s *system) watch(user, topic string) *watcher {
	s.t.Helper()
	w := &watcher{reader: s.listen(user, "", topic), s: s, topic: topic}
	w.fetch()
	return w
}

func (w *watcher) fetch() {
	w.t.Helper()
	var p jobs.Presence
	polltest.Until(w.t, "all hubs answer", func() bool { p = w.s.presence(w.topic, ""); return p.Complete })
	w.users = make(map[string]bool)
	for _, user := range p.Listeners {
		w.users[user] = true
	}
}

// sees reads events until the page shows these users.
func (w *watcher) sees(users ...string) {
	w.t.Helper()
	timer := time.AfterFunc(patience, w.close)
	defer timer.Stop()
	for !slices.Equal(slices.Sorted(maps.Keys(w.users)), users) {
		e, ok := w.next()
		switch {
		case !ok:
			w.t.Fatalf("the page shows %s, want %s; the changes were %s", slices.Sorted(maps.Keys(w.users)), users, w.events)
		case e.name == "missed":
			w.fetch()
		case e.name == "live":
			change := decode[struct {
				Type string
				Data struct{ Users []string }
			}](w.t, e.data)
			for _, user := range change.Data.Users {
				w.events = append(w.events, change.Type+" "+user)
				switch change.Type {
				case "join":
					w.users[user] = true
				case "leave":
					delete(w.users, user)
				}
			}
		}
	}
}

func announced(topic string) bool { return strings.HasPrefix(topic, "room.") }

// Users who begin and end to listen are announced to the listeners at all hubs: not for each of their streams.
func TestJoinAndLeave(t *testing.T) {
	each(t, func(t *testing.T, w way) {
		one, two := twoHubs(t, w, sse.Options{Announced: announced})
		ana := one.watch("ana", "room.1")
		ana.sees("ana")
		bo := two.watch("bo@b.c", "room.1")
		bo.sees("ana", "bo@b.c")
		ana.sees("ana", "bo@b.c")

		// A second stream of bo, here or there, and the end of the first change nothing. Another user comes and goes meanwhile.
		last := bo.reader
		for i, s := range []*system{two, one} {
			more := s.listen("bo@b.c", "", "room.1")
			last.close()
			last = more
			other := fmt.Sprint("other", i)
			reader := two.watch(other, "room.1")
			ana.sees("ana", "bo@b.c", other)
			reader.sees("ana", "bo@b.c", other)
			reader.close()
			ana.sees("ana", "bo@b.c")
		}
		if slices.Contains(ana.events, "leave bo@b.c") {
			t.Errorf("bo has had a stream all the time, and the changes were %s", ana.events)
		}
		last.close()
		ana.sees("ana")
		ana.close()
		polltest.Until(t, "an audience without users here ends", func() bool { return one.hub.Audiences()+two.hub.Audiences() == 0 })
	})
}

// A page that has fetched a user who has just come, and is not announced yet, learns that the user has left.
func TestShortVisit(t *testing.T) {
	one, two := twoHubs(t, ways[0], sse.Options{Announced: announced})
	ana := one.watch("ana", "room.1")
	ana.sees("ana")
	for i := range 5 {
		other := fmt.Sprint("other", i)
		reader := two.listen(other, "", "room.1")
		if ana.fetch(); !ana.users[other] {
			t.Errorf("%s listens, and the page has %v", other, ana.users)
		}
		reader.close()
		ana.sees("ana")
	}
}

// Users who were there before a hub had listeners are not announced there.
func TestOnlyChangesAreAnnounced(t *testing.T) {
	one, two := twoHubs(t, ways[0], sse.Options{Announced: announced})
	for _, user := range userNames(3) {
		one.listen(user, "", "room.1")
	}
	polltest.Until(t, "the hub has published its users", func() bool { return one.hub.PublishedUsers("room.1") == 3 })
	if err := one.hubConn.FlushWithContext(natstest.Context(t)); err != nil { // the other hub does not get what was published before
		t.Fatal(err)
	}
	ana := two.watch("ana", "room.1")
	two.watch("bo", "room.1")
	ana.sees(append([]string{"ana", "bo"}, userNames(3)...)...)
	for _, event := range ana.events {
		if strings.Contains(event, "user") {
			t.Errorf("the changes were %s, want ana and bo alone", ana.events)
		}
	}
}

func userNames(n int) (users []string) {
	for i := range n {
		users = append(users, fmt.Sprint("user", i))
	}
	return users
}

// A page that is loaded again is not announced.
func TestReloadIsNotAnnounced(t *testing.T) {
	s := newSystem(t, ways[0], sse.Options{Announced: announced}, func(s *system) { s.hub.SetLeaveGrace(time.Hour) })
	ana := s.watch("ana", "room.1")
	bo := s.listen("bo", "", "room.1")
	ana.sees("ana", "bo")
	for i, other := range []string{"cyd", "dan", "eve"} {
		bo.close()
		polltest.Until(t, "the stream has ended", func() bool { return s.hub.Open() == 1+i })
		s.listen(other, "", "room.1")
		ana.sees([]string{"ana", "bo", "cyd", "dan", "eve"}[:3+i]...) // what has changed is announced now
		if got := s.presence("room.1", "ana"); got.Streams != 2+i || got.Users != 3+i {
			t.Errorf("got %s, want bo to be there still", summary(got))
		}
		bo = s.listen("bo", "", "room.1")
	}
	if slices.Contains(ana.events, "leave bo") {
		t.Errorf("the changes were %s", ana.events)
	}
}

// Who has fetched the listeners while a hub was unreachable fetches them again when it is back, also if all that it has published
// comes late.
func TestUnreachableHub(t *testing.T) {
	one, two := twoHubs(t, ways[0], sse.Options{Announced: announced, Drain: time.Hour}) // so that its users do not leave
	ana := one.watch("ana", "room.1")
	two.listen("bo", "", "room.1")
	ana.sees("ana", "bo")
	two.proxy.cut()
	ana.sees("ana")
	two.proxy.restore()
	ana.sees("ana", "bo")
}

// The users of a hub that is gone have left. If it was only unreachable, they come again.
func TestUsersOfALostHub(t *testing.T) {
	one, two := twoHubs(t, ways[0], sse.Options{Announced: announced, Drain: 10 * time.Millisecond})
	ana := one.watch("ana", "room.1")
	bo := two.watch("bo", "room.1")
	ana.sees("ana", "bo")
	bo.sees("ana", "bo")
	two.proxy.cut()
	ana.sees("ana")
	two.proxy.restore()
	ana.sees("ana", "bo")
	bo.sees("ana", "bo")
	two.stop()
	ana.sees("ana")
}

// When very many leave at the same time, the listeners fetch who is there instead.
func TestManyLeaveAtOnce(t *testing.T) {
	one, two := twoHubs(t, ways[0], sse.Options{Announced: announced, Drain: 10 * time.Millisecond})
	ana := one.watch("ana", "room.1")
	all := userNames(101)
	for _, user := range all {
		two.listen(user, "", "room.1")
	}
	slices.Sort(all)
	ana.sees(append([]string{"ana"}, all...)...)
	ana.events = nil
	two.stop()
	ana.sees("ana")
	if len(ana.events) > 0 {
		t.Errorf("%d users were announced, want none", len(ana.events))
	}
}
