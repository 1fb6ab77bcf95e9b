package jobs_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/hark-jobs/hark/jobs"
)

func TestCheckTopic(t *testing.T) {
	for _, topic := range []string{"a", "comments.42", "A-b_c=3D.x", strings.Repeat("a", jobs.MaxTopicBytes), jobs.EscapeToken("ä ö") + ".x"} {
		if err := jobs.CheckTopic(topic); err != nil {
			t.Errorf("%q: %v", topic, err)
		}
	}
	for _, topic := range []string{"", ".", "a.", ".a", "a..b", "_a", jobs.TopicAll, jobs.TopicUser, jobs.UserTopic("ana"), "a b", "a*", "*", ">", "a.>", "ä", "a\n", "a\x00", "{user}", "a/b", strings.Repeat("a", jobs.MaxTopicBytes+1)} {
		var invalid *jobs.InvalidError
		if err := jobs.CheckTopic(topic); !errors.As(err, &invalid) || invalid.Field != "topic" {
			t.Errorf("%q: %v, want an InvalidError", topic, err)
		}
	}
}

func TestMatchTopic(t *testing.T) {
	for _, c := range []struct {
		pattern, topic string
		want           bool
	}{
		{"a", "a", true}, {"a", "b", false}, {"a", "a.b", false}, {"a.b", "a", false}, {"a.b", "a.b", true},
		{"*", "a", true}, {"*", "a.b", false}, {"a.*", "a.b", true}, {"a.*", "a", false}, {"a.*", "a.b.c", false}, {"*.b", "a.b", true}, {"a.*.c", "a.b.c", true},
		{">", "a", true}, {">", "a.b.c", true}, {"a.>", "a", false}, {"a.>", "a.b", true}, {"a.>", "a.b.c", true}, {"a.>", "b.b", false},
		{"{user}", "a=40b=2Ec", true}, {"{user}", "a@b", false}, {"{user}.x", "aa=40b=2Ec.x", false}, {"o.{user}.>", "o.a=40b=2Ec.7.8", true},
	} {
		if got := jobs.MatchTopic(c.pattern, c.topic, "a@b.c"); got != c.want {
			t.Errorf("%q matches %q: %v, want %v", c.pattern, c.topic, got, c.want)
		}
		if err := jobs.CheckTopicPattern(c.pattern); err != nil {
			t.Error(err)
		}
	}
	for _, pattern := range []string{"", "a..b", "a*", ">.a", "a.>.b", "_all", "{user}x", "a.{User}", "a b", ".>", "*."} {
		if err := jobs.CheckTopicPattern(pattern); err == nil {
			t.Errorf("the pattern %q is accepted", pattern)
		}
	}
}

func TestLiveEventCheck(t *testing.T) {
	ok := jobs.LiveEvent{Topic: "a", Type: "x"}
	for field, change := range map[string]func(*jobs.LiveEvent){
		"":      func(e *jobs.LiveEvent) { e.Topic = jobs.UserTopic("ä b") },
		"topic": func(e *jobs.LiveEvent) { e.Topic = jobs.TopicUser },
		"type":  func(e *jobs.LiveEvent) { e.Type = "" },
		"data":  func(e *jobs.LiveEvent) { e.Data = []byte("{") },
	} {
		e := ok
		change(&e)
		var invalid *jobs.InvalidError
		if err := e.Check(); field == "" && err != nil || field != "" && (!errors.As(err, &invalid) || invalid.Field != field) {
			t.Errorf("%q: %v", field, err)
		}
	}
	for n, want := range map[int]bool{jobs.MaxLiveEventBytes - 200: true, jobs.MaxLiveEventBytes: false} {
		e := ok
		e.Data = []byte(`"` + strings.Repeat("a", n) + `"`)
		if err := e.Check(); (err == nil) != want {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

func TestTopicRuleAnnounces(t *testing.T) {
	for _, c := range []struct {
		rule  jobs.TopicRule
		topic string
		want  bool
	}{
		{jobs.TopicRule{Topic: "room.*"}, "room.1", false},
		{jobs.TopicRule{Topic: "room.*", Announce: true}, "room.1", true},
		{jobs.TopicRule{Topic: "room.*", Announce: true}, "hall.1", false},
		{jobs.TopicRule{Topic: "room.{user}.x", Announce: true, Allow: []jobs.Rule{{Scope: "staff"}}}, "room.a=40b=2Ec.x", true},
		{jobs.TopicRule{Topic: "room.{user}.x", Announce: true}, "room.a=40b=2Ec.y", false},
	} {
		if got := c.rule.Announces(c.topic); got != c.want {
			t.Errorf("%+v announces %s: %v, want %v", c.rule, c.topic, got, c.want)
		}
	}
}
