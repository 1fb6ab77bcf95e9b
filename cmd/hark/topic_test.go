package main

import (
	"reflect"
	"testing"

	"github.com/hark-jobs/hark/jobs"
)

func TestTopicRule(t *testing.T) {
	for text, want := range map[string]jobs.TopicRule{
		"comments.*":         {Topic: "comments.*"},
		" orders.{user}.>  ": {Topic: "orders.{user}.>"},
		"ops.> scope:admin":  {Topic: "ops.>", Allow: []jobs.Rule{{Scope: "admin"}}},
		"team.red claim:team=red,blue scope:x claim:age=7": {Topic: "team.red", Allow: []jobs.Rule{
			{Scope: "x", Claims: map[string][]string{"team": {"red", "blue"}, "age": {"7"}}},
		}},
		"room.* announce":                    {Topic: "room.*", Announce: true},
		"room.* listeners scope:x":           {Topic: "room.*", Listeners: true, Allow: []jobs.Rule{{Scope: "x"}}},
		"room.* scope:x announce  listeners": {Topic: "room.*", Listeners: true, Announce: true, Allow: []jobs.Rule{{Scope: "x"}}},
	} {
		var got topicRule
		if err := got.UnmarshalText([]byte(text)); err != nil || !reflect.DeepEqual(jobs.TopicRule(got), want) {
			t.Errorf("%q is read as %+v, %v; want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{"", " ", "a..b", "_all", "a.>.b", "a*", "a red", "a scope:", "a scope:x scope:y", "a claim:x", "a claim:=x", "a claim:team"} {
		var got topicRule
		if err := got.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is read as %+v, want an error", text, got)
		}
	}
	// Several flags are several rules, and a comma does not separate rules.
	freshAccount(t)
	code, _, errs := harkCommand(t.Context(), "serve", "--listen", "127.0.0.1:0", "--topic", "a claim:t=1,2", "--topic", "b red")
	if code != exitUsage || errs == "" {
		t.Errorf("exit code %d, want %d: %s", code, exitUsage, errs)
	}
	t.Log(errs)
}
