package notifier_test

import (
	"strings"
	"testing"

	"github.com/hark-jobs/hark/client"
	"github.com/hark-jobs/hark/harktest"
	"github.com/hark-jobs/hark/jobs"
)

// Those who may listen to a topic see how many listen. A rule, and the scope admin, show who.
func TestTopicPresence(t *testing.T) {
	const secret = "0123456789abcdef0123456789abcdef"
	s := start(t, harktest.Secret(secret), harktest.Topics(
		jobs.TopicRule{Topic: "open.*", Listeners: true},
		jobs.TopicRule{Topic: "counted.*"},
		jobs.TopicRule{Topic: "staff.*", Listeners: true, Allow: []jobs.Rule{{Scope: "staff"}}},
		jobs.TopicRule{Topic: "staff.*"},
		jobs.TopicRule{Topic: "closed.>", Allow: []jobs.Rule{{Scope: "staff"}}},
		jobs.TopicRule{Topic: "room.{user}", Announce: true},
	))
	s.listen("/v1/stream?topic=open.1&topic=counted.1&topic=staff.1&topic=room.ana&topic=_user&topic=_all", s.as("ana")...)
	s.listen("/v1/stream?topic=open.1&topic=_all", s.as("ana")...)
	s.listen("/v1/stream?topic=open.1&topic=_user&topic=closed.1.x", s.as("bob", "staff")...)
	for _, c := range []struct {
		who   []string
		topic string
		want  string
	}{
		{s.as("cyd"), "open.1", `{"topic":"open.1","streams":3,"users":2,"listeners":["ana","bob"],"complete":true}`},
		{s.as("cyd"), "open.2", `{"topic":"open.2","streams":0,"users":0,"listeners":[],"complete":true}`},
		{s.as("cyd"), "counted.1", `{"topic":"counted.1","streams":1,"users":1,"complete":true}`},
		{s.as("root", "admin"), "counted.1", `{"topic":"counted.1","streams":1,"users":1,"listeners":["ana"],"complete":true}`},
		{s.as("cyd"), "staff.1", `{"topic":"staff.1","streams":1,"users":1,"complete":true}`},
		{s.as("cyd", "staff"), "staff.1", `{"topic":"staff.1","streams":1,"users":1,"listeners":["ana"],"complete":true}`},
		{s.as("root", "admin"), "closed.1.x", `{"topic":"closed.1.x","streams":1,"users":1,"listeners":["bob"],"complete":true}`},
		{s.as("shop", "notify"), "closed.1.x", `{"topic":"closed.1.x","streams":1,"users":1,"complete":true}`},
		{s.as("ana"), "room.ana", `{"topic":"room.ana","streams":1,"users":1,"listeners":["ana"],"complete":true}`},
		{s.as("ana"), "_user", `{"topic":"_user","streams":1,"users":1,"listeners":["ana"],"complete":true}`},
		{s.as("cyd"), "_user", `{"topic":"_user","streams":0,"users":0,"listeners":[],"complete":true}`},
		{s.as("cyd"), "_all", `{"topic":"_all","streams":2,"users":1,"complete":true}`},
	} {
		if got := string(s.call("GET", "/v1/topics/"+c.topic, "", c.who...).want(200).body); got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
	}
	s.call("GET", "/v1/topics/closed.1", "", s.as("cyd")...).problem(403, "topic_forbidden")
	s.call("GET", "/v1/topics/room.ana", "", s.as("cyd")...).problem(403, "topic_forbidden")
	s.call("GET", "/v1/topics/a..b", "", s.as("root", "admin")...).problem(400, "topic_invalid")
	s.call("GET", "/v1/topics/_user.ana", "", s.as("root", "admin")...).problem(400, "topic_invalid")
	s.call("GET", "/v1/topics/open.1", "").problem(401, "token_missing")

	c, err := client.New(client.Options{URL: s.URL, Token: s.Token("cyd")})
	if err != nil {
		t.Fatal(err)
	}
	if p, err := c.Presence(t.Context(), "open.1"); err != nil || p.Streams != 3 || p.Users != 2 || len(p.Listeners) != 2 || !p.Complete {
		t.Errorf("the client gets %+v, %v", p, err)
	}
}

// The listeners of a topic that is configured so get an event when a user comes.
func TestTopicAnnounces(t *testing.T) {
	s := start(t, harktest.Topics(jobs.TopicRule{Topic: "room.*", Announce: true}, jobs.TopicRule{Topic: "quiet.*"}))
	ana, _ := s.listen("/v1/stream?topic=quiet.1&topic=room.1", s.as("ana")...)
	s.listen("/v1/stream?topic=quiet.1&topic=room.1", s.as("bob")...)
	for {
		e := ana.next()
		if strings.Contains(e.data, "quiet") {
			t.Fatalf("got %+v", e)
		}
		if strings.HasPrefix(e.data, `{"topic":"room.1","type":"join","data":{"users":[`) && strings.Contains(e.data, "bob") {
			return // ana may have come within the same second
		}
	}
}
