package e2e_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/hark-jobs/hark/harktest"
	"github.com/hark-jobs/hark/internal/browsertest"
	"github.com/hark-jobs/hark/jobs"
)

// subscribe subscribes a tab to a topic. It waits until the page would fetch its state.
func (s *tabs) subscribe(p *browsertest.Tab, topic string) {
	s.t.Helper()
	browsertest.Eval[bool](p, fmt.Sprintf(`(() => {
		window.live ??= [];
		window.missed ??= {};
		window.errors ??= hark.on("error", (err) => window.refused = err.code) && [];
		hark.subscribe(%[1]q, (e) => live.push(e.topic + " " + e.data), () => missed[%[1]q] = (missed[%[1]q] ?? 0) + 1);
		return true;
	})()`, topic))
}

func (s *tabs) publish(topic string, number int) {
	s.t.Helper()
	if err := s.service.Publish(s.t.Context(), jobs.LiveEvent{Topic: topic, Type: "test", Data: fmt.Append(nil, number)}); err != nil {
		s.t.Fatal(err)
	}
}

// Tabs share one stream for the topics of all of them. Each gets the events of its own topics, while topics come and go and
// after another tab has the stream. A refused topic is an error of its tab alone.
func TestTopicsInTabs(t *testing.T) {
	t.Parallel()
	hark := harktest.Start(t, harktest.Secret(secret), harktest.Topics(jobs.TopicRule{Topic: "comments.*"}))
	s := newTabs(t, hark.URL)
	s.signIn("ana")
	one, two, three := s.open(), s.open(), s.open()
	all := []*browsertest.Tab{one, two, three}
	s.live(all...)
	began := func(p *browsertest.Tab, topic string) {
		t.Helper()
		p.Until("the page fetches what "+topic+" is about", fmt.Sprintf("missed[%q] > 0", topic))
	}
	has := func(p *browsertest.Tab, want ...string) {
		t.Helper()
		p.Until("the last event comes", fmt.Sprintf("live.includes(%q)", want[len(want)-1]))
		if got := browsertest.Eval[[]string](p, "live"); !slices.Equal(got, want) {
			t.Errorf("the tab got %q, want %q", got, want)
		}
	}
	s.subscribe(one, "comments.1")
	began(one, "comments.1")
	s.subscribe(two, "comments.1")
	s.subscribe(two, "_user")
	s.subscribe(three, "comments.2")
	began(two, "comments.1")
	began(two, "_user")
	began(three, "comments.2")
	s.streams(1)
	s.publish("comments.1", 1)
	s.publish(jobs.UserTopic("ana"), 2)
	s.publish("comments.2", 3)
	has(one, "comments.1 1")
	has(two, "comments.1 1", "_user 2")
	has(three, "comments.2 3")

	s.subscribe(three, "secret")
	three.Until("the topic is refused", `window.refused === "topic_forbidden"`)
	if n := browsertest.Eval[int](one, `window.refused ? 1 : 0`); n != 0 {
		t.Error("the refused topic is an error of another tab, too")
	}
	s.streams(1)

	leader, others := s.leader(all...)
	for _, p := range others {
		browsertest.Eval[bool](p, "(missed = {}, true)")
	}
	leader.Close()
	for _, p := range others {
		p.Until("the page fetches what may be missing", "Object.keys(missed).length > 0")
	}
	s.streams(1)
	for i, topic := range []string{"comments.1", "comments.2"} {
		s.publish(topic, 10+i)
		for _, p := range others {
			if subscribed := browsertest.Eval[bool](p, fmt.Sprintf("%q in missed", topic)); subscribed {
				p.Until("a later event comes", fmt.Sprintf(`live.includes("%s %d")`, topic, 10+i))
			}
		}
	}
}
