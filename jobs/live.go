package jobs

import (
	"encoding/json"
	"strings"
)

// LiveEvent is news for the streams that listen to a topic at this moment: a like, a line on a board, who is typing. It is
// not stored and in no inbox. What must not be lost is a [Notification].
type LiveEvent struct {
	// Topic is a topic such as comments.42 (see [CheckTopic]), or [TopicAll], or the result of [UserTopic].
	Topic string `json:"topic"`
	// Type says what has happened, such as like.added: 1 to 100 printable ASCII characters without spaces.
	Type string `json:"type"`
	// Data is any JSON, or empty. The event has at most [MaxLiveEventBytes].
	Data json.RawMessage `json:"data,omitempty"`
}

// MaxLiveEventBytes limits the JSON of a [LiveEvent]. One event must fit into the backlog of a slow stream.
const MaxLiveEventBytes = 48 << 10

// The topics that every signed-in user may listen to.
const (
	// TopicAll has the events for everyone.
	TopicAll = "_all"
	// TopicUser has the events for the user of the stream. A publisher names the user: see [UserTopic].
	TopicUser = "_user"
)

// UserTopic returns the topic to publish on for one user. The streams of the user get its events on [TopicUser].
func UserTopic(user string) string { return TopicUser + "." + EscapeToken(user) }

// MaxTopicBytes limits a topic, apart from the user in [UserTopic].
const MaxTopicBytes = 200

// CheckTopic returns an [*InvalidError] unless topic is well-formed: tokens with dots between them, at most [MaxTopicBytes],
// each token of letters, digits, _, - and =, such as comments.42. The first token does not begin with _. [EscapeToken] makes
// a token of any text.
func CheckTopic(topic string) error {
	if len(topic) > MaxTopicBytes || strings.HasPrefix(topic, "_") || !areTokens(topic) {
		return invalid("topic", "must be 1 to %d characters like comments.42: letters, digits, _, - and =, with dots between them, and no _ at the start", MaxTopicBytes)
	}
	return nil
}

// areTokens reports whether text is one or more tokens with dots between them.
func areTokens(text string) bool {
	for token := range strings.SplitSeq(text, ".") {
		if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r > '~' || r != '=' && !isPlain(byte(r)) }) {
			return false
		}
	}
	return true
}

// Check returns an [*InvalidError] for the first invalid field.
func (e *LiveEvent) Check() error {
	if user, ok := strings.CutPrefix(e.Topic, TopicUser+"."); ok {
		name, err := UnescapeToken(user)
		if err == nil {
			err = CheckUser(name)
		}
		if err != nil {
			return invalid("topic", "must name a user as UserTopic does")
		}
	} else if e.Topic != TopicAll {
		if err := CheckTopic(e.Topic); err != nil {
			return err
		}
	}
	if err := checkType(e.Type); err != nil {
		return err
	}
	if len(e.Data) > 0 && !json.Valid(e.Data) {
		return invalid("data", "must be JSON")
	}
	if e.tooLarge() {
		return invalid("data", "must be smaller: the event has more than %d KiB of JSON, where <, > and & take 6 bytes each", MaxLiveEventBytes>>10)
	}
	return nil
}

// tooLarge reports whether e has more than [MaxLiveEventBytes]. Only long events are marshalled: an escape has six bytes for
// one.
func (e *LiveEvent) tooLarge() bool {
	if 6*len(e.Data) < MaxLiveEventBytes-2<<10 { // the rest has less than 2 KiB, but for a long user
		return false
	}
	text, err := json.Marshal(e)
	return err != nil || len(text) > MaxLiveEventBytes
}

// checkType returns an [*InvalidError] unless a notification or an event may have this type.
func checkType(typ string) error {
	if typ == "" || len(typ) > 100 || strings.ContainsFunc(typ, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return invalid("type", "must be 1 to 100 printable ASCII characters without spaces, like invoice.paid")
	}
	return nil
}

// TopicRule says who may listen to the topics that match a pattern.
type TopicRule struct {
	// Topic is a pattern: see [CheckTopicPattern].
	Topic string `json:"topic"`
	// Allow has the rules of which one must hold. Without rules every signed-in user may listen.
	Allow []Rule `json:"allow,omitempty"`
	// Listeners says that those who may listen by this rule may also see who listens. Defaults to false: they see how many do.
	Listeners bool `json:"listeners,omitempty"`
	// Announce says that the listeners get live events of the types join and leave, with data like {"users":["ana"]}, when users
	// begin and end to listen. It concerns all who may listen to these topics, by whatever rule or token. Defaults to false.
	Announce bool `json:"announce,omitempty"`
}

// Check returns an error if the rule is not well-formed.
func (r *TopicRule) Check() error {
	if err := CheckTopicPattern(r.Topic); err != nil {
		return err
	}
	for i := range r.Allow {
		if err := r.Allow[i].Check(); err != nil {
			return err
		}
	}
	return nil
}

// Permits reports whether a user with this grant may listen to a topic by this rule.
func (r *TopicRule) Permits(topic, user string, g Grant) bool {
	return MatchTopic(r.Topic, topic, user) && allowed(r.Allow, &g)
}

// Announces reports whether the listeners of a topic get the events join and leave by this rule. {user} stands for any user here.
func (r *TopicRule) Announces(topic string) bool {
	return r.Announce && MatchTopic(strings.ReplaceAll(r.Topic, "{user}", "*"), topic, "")
}

// Presence is who listens to a topic at a moment.
type Presence struct {
	Topic string `json:"topic"`
	// Streams is the number of open streams that listen. The tabs of a browser share one.
	Streams int `json:"streams"`
	// Users is the number of their users.
	Users int `json:"users"`
	// Listeners has the users, sorted, at most [MaxListeners]. It is nil if the caller may not see them.
	Listeners []string `json:"listeners,omitzero"`
	// Complete is false if a notifier did not answer within a second, so that its streams are missing.
	Complete bool `json:"complete"`
}

// MaxListeners is the number of users that a [Presence] lists.
const MaxListeners = 1000

// CheckTopicPattern returns an [*InvalidError] unless pattern is well-formed: a topic in which a token may be * for any one
// token, {user} for the escaped name of the listener, or, as the last one, > for one or more tokens.
func CheckTopicPattern(pattern string) error {
	topic := pattern
	if topic == ">" {
		return nil
	}
	topic = strings.TrimSuffix(topic, ".>")
	tokens := strings.Split(topic, ".")
	for i, token := range tokens {
		if token == "*" || token == "{user}" {
			tokens[i] = "x"
		}
	}
	if CheckTopic(strings.Join(tokens, ".")) != nil {
		return invalid("topic", "must be a topic like comments.*, orders.{user} or board.>: * is any one token, {user} the listener, > at the end one or more tokens")
	}
	return nil
}

// MatchTopic reports whether a pattern matches a topic for a listener.
func MatchTopic(pattern, topic, user string) bool {
	for {
		want, restOfPattern, morePattern := strings.Cut(pattern, ".")
		token, restOfTopic, moreTopic := strings.Cut(topic, ".")
		switch {
		case want == ">" && !morePattern:
			return true
		case want == "{user}" && token != EscapeToken(user), want != "*" && want != "{user}" && want != token:
			return false
		case !morePattern || !moreTopic:
			return morePattern == moreTopic
		}
		pattern, topic = restOfPattern, restOfTopic
	}
}
