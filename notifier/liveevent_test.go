package notifier_test

import (
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/hark-jobs/hark/client"
	"github.com/hark-jobs/hark/harktest"
	"github.com/hark-jobs/hark/jobs"
)

// A service publishes to a topic, to a user and to everyone; a stream gets what it listens to, and nothing is stored.
func TestPublishEvent(t *testing.T) {
	s := start(t, harktest.Topics(jobs.TopicRule{Topic: "comments.*"}))
	service := s.as("shop", "notify")
	ana, _ := s.listen("/v1/stream?topic=comments.42&topic=_user&topic=_all", s.as("ana")...)
	for _, body := range []string{
		`{"topic":"comments.42","type":"like.added","data":{"likes":1}}`,
		`{"topic":"comments.43","type":"like.added"}`,
		`{"user":"ana","type":"price"}`,
		`{"user":"bob","type":"price"}`,
		`{"everyone":true,"type":"line","data":"Lunch"}`,
	} {
		if body := s.call("POST", "/v1/events", body, service...).want(204).body; len(body) > 0 {
			t.Errorf("204 has the body %s", body)
		}
	}
	for _, want := range []string{
		`{"topic":"comments.42","type":"like.added","data":{"likes":1}}`, `{"topic":"_user","type":"price"}`, `{"topic":"_all","type":"line","data":"Lunch"}`,
	} {
		if e := ana.next(); e.name != "live" || e.data != want || e.id != "" {
			t.Errorf("got %+v, want live %s", e, want)
		}
	}
	var page struct{ Unread int }
	s.call("GET", "/v1/notifications", "", s.as("ana")...).into(&page)
	if page.Unread != 0 {
		t.Errorf("%d unread, want none", page.Unread)
	}
}

// What cannot be published is refused with a code.
func TestPublishEventRefused(t *testing.T) {
	s := start(t)
	service := s.as("shop", "notify")
	for _, c := range []struct {
		body   string
		status int
		code   string
		field  string
	}{
		{`{"type":"x"}`, 400, "audience_invalid", "topic"},
		{`{"topic":"a","user":"ana","type":"x"}`, 400, "audience_invalid", "topic"},
		{`{"topic":"a","everyone":true,"type":"x"}`, 400, "audience_invalid", "topic"},
		{`{"topic":"_all","type":"x"}`, 400, "invalid_request", "topic"},
		{`{"topic":"_user.bob","type":"x"}`, 400, "invalid_request", "topic"},
		{`{"topic":"a.*","type":"x"}`, 400, "invalid_request", "topic"},
		{`{"topic":"a.>","type":"x"}`, 400, "invalid_request", "topic"},
		{`{"topic":"a..b","type":"x"}`, 400, "invalid_request", "topic"},
		{`{"topic":"a b","type":"x"}`, 400, "invalid_request", "topic"},
		{`{"topic":"` + strings.Repeat("a", 201) + `","type":"x"}`, 400, "invalid_request", "topic"},
		{`{"user":"_all","type":"x"}`, 400, "invalid_request", "user"},
		{`{"topic":"a"}`, 400, "invalid_request", "type"},
		{`{"topic":"a","type":"a b"}`, 400, "invalid_request", "type"},
		{`{"topic":"a","type":"x","data":"` + strings.Repeat("a", 64<<10) + `"}`, 400, "invalid_request", "data"},
		{`{"topic":"a","type":"x","data":"` + strings.Repeat("<", 12<<10) + `"}`, 400, "invalid_request", "data"},
		{`{"topic":"a","type":"x","id":"1"}`, 400, "field_unknown", "id"},
	} {
		if p := s.call("POST", "/v1/events", c.body, service...).problem(c.status, c.code); p.Field != c.field {
			t.Errorf("%.60s: the field is %q, want %q", c.body, p.Field, c.field)
		}
	}
	s.call("POST", "/v1/events", `{"topic":"a","type":"x"}`, s.as("ana")...).problem(403, "scope_missing")
	s.call("POST", "/v1/events", `{"topic":"a","type":"x"}`).problem(401, "token_missing")
}

// A rule or the token decides who may listen to a topic.
func TestTopicPermission(t *testing.T) {
	const secret = "0123456789abcdef0123456789abcdef"
	s := start(t, harktest.Secret(secret), harktest.Topics(
		jobs.TopicRule{Topic: "comments.*"},
		jobs.TopicRule{Topic: "orders.{user}.>"},
		jobs.TopicRule{Topic: "ops.>", Allow: []jobs.Rule{{Scope: "ops"}}},
		jobs.TopicRule{Topic: "team.red", Allow: []jobs.Rule{{Claims: map[string][]string{"team": {"red", "blue"}}}}},
	))
	token := func(user, scope string, claims map[string]any) string {
		all := jwt.MapClaims{"sub": user, "scope": scope, "iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix()}
		for name, v := range claims {
			all[name] = v
		}
		text, err := jwt.NewWithClaims(jwt.SigningMethodHS256, all).SignedString([]byte(secret))
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	plain := token("a@b.c", "", nil)
	for _, c := range []struct {
		token, topic string
		may          bool
	}{
		{plain, "_user", true}, {plain, "_all", true}, {plain, "comments.42", true}, {plain, "comments", false}, {plain, "comments.42.x", false},
		{plain, "orders.a=40b=2Ec.7", true}, {plain, "orders.aa=40b=2Ec.7", false}, {plain, "orders.a=40b=2Ec", false},
		{plain, "ops.disk", false}, {token("ana", "ops other", nil), "ops.disk", true},
		{plain, "team.red", false}, {token("ana", "", map[string]any{"team": "green"}), "team.red", false},
		{token("ana", "", map[string]any{"team": "blue"}), "team.red", true},
		{token("ana", "", map[string]any{"hark_topics": []string{"room.*", "bad..pattern"}}), "room.7", true},
		{token("ana", "", map[string]any{"hark_topics": []string{"room.*"}}), "room.7.x", false},
		{token("ana", "", map[string]any{"hark_topics": "room.*"}), "room.7", false},
		{token("ana", "", map[string]any{"hark_topics": []string{"{user}.>"}}), "ana.x", true},
		{token("ana", "", map[string]any{"hark_topics": []string{"{user}.>"}}), "bob.x", false},
	} {
		auth := []string{"Authorization", "Bearer " + c.token}
		query := "?topic=" + url.QueryEscape(c.topic)
		if c.may {
			s.call("GET", "/v1/events"+query, "", auth...).want(200)
			continue
		}
		if p := s.call("GET", "/v1/stream"+query+"&topic=_user", "", auth...).problem(403, "topic_forbidden"); p.Topic != c.topic {
			t.Errorf("the refused topic is %q, want %q", p.Topic, c.topic)
		}
		s.call("GET", "/v1/events"+query, "", auth...).problem(403, "topic_forbidden")
		s.call("POST", "/v1/stream/ticket"+query, "", auth...).problem(403, "topic_forbidden")
	}
	// A ticket has no claims. It keeps what the token permitted when the ticket was issued.
	blue := []string{"Authorization", "Bearer " + token("ana", "", map[string]any{"team": "blue", "hark_topics": []string{"room.*"}})}
	ticket := func(query string) string {
		var issued struct{ Ticket string }
		s.call("POST", "/v1/stream/ticket"+query, "", blue...).want(201).into(&issued)
		return issued.Ticket
	}
	s.listen("/v1/stream?topic=team.red&topic=room.1&topic=comments.1&ticket=" + ticket("?topic=team.red"))
	s.call("GET", "/v1/stream?topic=team.red&ticket="+ticket(""), "").problem(403, "topic_forbidden")
}

// Topics that cannot exist, and too many of them, are refused.
func TestTopicsRefused(t *testing.T) {
	s := start(t, harktest.Topics(jobs.TopicRule{Topic: ">"}))
	for _, topic := range []string{"", "a.*", ">", "_users", "_user.bob", "a b", "a\x00", "ä", ".a", "a.", strings.Repeat("a", 201)} {
		if p := s.call("GET", "/v1/stream?topic="+url.QueryEscape(topic), "", s.as("ana")...).problem(400, "topic_invalid"); p.Topic != topic {
			t.Errorf("the refused topic is %q, want %q", p.Topic, topic)
		}
	}
	many := func(n int) string {
		query := url.Values{}
		for i := range n {
			query.Add("topic", "t."+strconv.Itoa(i))
		}
		return "/v1/stream?" + query.Encode()
	}
	s.call("GET", many(101), "", s.as("ana")...).problem(400, "too_many_topics")
	s.listen(many(100), s.as("ana")...)
}

// The clients for Go publish and listen over HTTP and over NATS.
func TestLiveEventsByClients(t *testing.T) {
	s := start(t, harktest.Topics(jobs.TopicRule{Topic: "comments.*"}))
	got := make(chan client.Event, 100)
	ctx := t.Context()
	go func() {
		defer close(got)
		for e, err := range s.Client("a@b.c").Stream(ctx, client.StreamOptions{Topics: []string{"comments.1", jobs.TopicUser, jobs.TopicAll}}) {
			if err != nil {
				return
			}
			got <- e
		}
	}()
	next := func() client.Event {
		t.Helper()
		select {
		case e := <-got:
			return e
		case <-time.After(patience):
			t.Fatal("no event came")
		}
		panic("unreachable")
	}
	if e := next(); e.Type != client.EventHello {
		t.Fatalf("got %+v, want hello", e)
	}
	service := s.Client("shop", "notify")
	for _, publish := range []func(jobs.LiveEvent) error{
		func(e jobs.LiveEvent) error { return service.Publish(ctx, e) },
		func(e jobs.LiveEvent) error { return s.Queue.Publish(ctx, e) },
	} {
		for topic, name := range map[string]string{"comments.1": "comments.1", jobs.UserTopic("a@b.c"): jobs.TopicUser, jobs.TopicAll: jobs.TopicAll} {
			if err := publish(jobs.LiveEvent{Topic: topic, Type: "x", Data: []byte("7")}); err != nil {
				t.Fatal(err)
			}
			e := next()
			live, err := e.Live()
			if err != nil || e.Type != client.EventLive || live.Topic != name || live.Type != "x" || string(live.Data) != "7" {
				t.Errorf("got %s %+v, %v; want %s", e.Type, live, err, name)
			}
		}
		if err := publish(jobs.LiveEvent{Topic: "a b", Type: "x"}); err == nil {
			t.Error("a topic that is not possible was published on")
		}
	}
}
