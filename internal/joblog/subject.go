package joblog

import (
	"crypto/sha256"
	"fmt"
	"strings"

	"github.com/hark-jobs/hark/jobs"

	"github.com/oklog/ulid/v2"
)

// Names of the subjects' parts after the namespace. JetStream republishes each message under logPart on livePart.
const (
	logPart  = ".log."
	livePart = ".live."
	pollPart = ".poll." // requests between notifiers; neither stored nor republished
	// topicPart begins the topics of live events, hubsPart is what notifiers publish once a second, and presencePart and audiencePart
	// are about who listens to a topic. None of them is stored.
	topicPart    = ".topic."
	hubsPart     = ".hubs"
	presencePart = ".presence"
	audiencePart = ".audience."
)

func newID() string { return ulid.Make().String() }

// keyedID derives a job's id from its user and idempotency key, so that a repeated request finds the same job after
// every process was restarted. The length separates user and key.
func keyedID(user, key string) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%d:%s%s", len(user), user, key))
	return ulid.ULID(sum[:16]).String()
}

// EscapeUser escapes a user id into one token of a subject: see [jobs.EscapeToken].
func EscapeUser(user string) string { return jobs.EscapeToken(user) }

// UnescapeUser is the inverse of [EscapeUser]. It returns an error for any other token.
func UnescapeUser(token string) (string, error) { return jobs.UnescapeToken(token) }

// LogSubjects matches everything that the stream stores.
func (ns Namespace) LogSubjects() string { return string(ns) + logPart + ">" }

// LiveSubjects matches everything that is published live, for all users.
func (ns Namespace) LiveSubjects() string { return string(ns) + livePart + ">" }

// SpecSubject returns the subject of a job request. Kind and id may be "*".
func (ns Namespace) SpecSubject(user, kind, id string) string {
	return ns.ofUser(logPart, user) + ".job." + kind + "." + id
}

// StateSubject returns the subject of the state of a job. The id may be "*".
func (ns Namespace) StateSubject(user, id string) string {
	return ns.ofUser(logPart, user) + ".state." + id
}

// NotificationSubject returns the subject of a user's stored notifications, or of the broadcasts for [jobs.Everyone].
func (ns Namespace) NotificationSubject(user string) string {
	return ns.ofUser(logPart, user) + ".notification"
}

// UserSubjects matches everything that is stored for a user.
func (ns Namespace) UserSubjects(user string) string { return ns.ofUser(logPart, user) + ".>" }

// SpecSubjects matches the job requests of all users. Kind and id may be "*".
func (ns Namespace) SpecSubjects(kind, id string) string {
	return string(ns) + logPart + "*.*.job." + kind + "." + id
}

// StateSubjects matches the states of the jobs of all users. The id may be "*".
func (ns Namespace) StateSubjects(id string) string { return string(ns) + logPart + "*.*.state." + id }

// NotificationSubjects matches the stored notifications of all users, and the broadcasts.
func (ns Namespace) NotificationSubjects() string { return string(ns) + logPart + "*.*.notification" }

// LiveSubject matches everything that is published live for a user: stored messages, and [Namespace.LiveInboxSubject].
func (ns Namespace) LiveSubject(user string) string { return ns.ofUser(livePart, user) + ".>" }

// LiveStateSubject returns the live subject of the states of one job.
func (ns Namespace) LiveStateSubject(user, id string) string {
	return ns.ofUser(livePart, user) + ".state." + id
}

// LiveInboxSubject returns the live subject of changes in a user's inbox, which are not stored.
func (ns Namespace) LiveInboxSubject(user string) string { return ns.ofUser(livePart, user) + ".inbox" }

// liveInboxSubjects matches the changes in the inboxes of all users.
func (ns Namespace) liveInboxSubjects() string { return string(ns) + livePart + "*.*.inbox" }

// liveStateSubjects matches the live states of all jobs.
func (ns Namespace) liveStateSubjects() string { return string(ns) + livePart + "*.*.state.*" }

// fileChunks returns the subject of the chunks of an object, by the NUID in its info.
func (ns Namespace) fileChunks(nuid string) string { return "$O." + ns.FilesBucket() + ".C." + nuid }

// fileInfos returns the subject of the info of an object, by its name as the object store encodes it.
func (ns Namespace) fileInfos(encoded string) string {
	return "$O." + ns.FilesBucket() + ".M." + encoded
}

// PollSubject returns the subject on which other notifiers ask this one for the events of a polled stream. The name is
// the notifier's, one token. Its messages are not stored.
func (ns Namespace) PollSubject(notifier string) string { return string(ns) + pollPart + notifier }

// TopicSubject returns the subject of the live events of a topic: [jobs.CheckTopic], [jobs.TopicAll] and [jobs.UserTopic] say
// what a topic is. Its messages are not stored.
func (ns Namespace) TopicSubject(topic string) string { return string(ns) + topicPart + topic }

// HubsSubject returns the subject on which each notifier publishes once a second. Its messages are not stored.
func (ns Namespace) HubsSubject() string { return string(ns) + hubsPart }

// PresenceSubject returns the subject on which a notifier asks all notifiers who listens to a topic. Its messages are not stored.
func (ns Namespace) PresenceSubject() string { return string(ns) + presencePart }

// AudienceSubject returns the subject on which notifiers publish which of their users listen to a topic. Its messages are not stored.
func (ns Namespace) AudienceSubject(topic string) string { return string(ns) + audiencePart + topic }

// ofUser returns what the subjects of a user have in common, without the dot at the end.
func (ns Namespace) ofUser(part, user string) string {
	token := EscapeUser(user)
	return string(ns) + part + Shard(token) + "." + token
}

// LiveOf returns the live subject on which a message of the log is republished.
func LiveOf(logSubject string) string { return strings.Replace(logSubject, logPart, livePart, 1) }

// logOf is the inverse of [LiveOf]. It returns any other subject unchanged.
func logOf(subject string) string {
	if ns, rest, _ := strings.Cut(subject, "."); strings.HasPrefix(rest, livePart[1:]) {
		return ns + logPart + strings.TrimPrefix(rest, livePart[1:])
	}
	return subject
}

// Class is what a message on one of hark's subjects is.
type Class string

// The classes: the token after the user in a subject.
const (
	ClassJob          Class = "job"
	ClassState        Class = "state"
	ClassNotification Class = "notification"
	ClassInbox        Class = "inbox"
)

// userToken is the position of the user's token in a subject. The shard is before it, and the class follows it.
const userToken = 3

// ParseSubject returns the user's token, as [EscapeUser] returns it, and the class of a stored or live subject of any
// namespace: a subscription has the messages of one. A subject whose shard is not that of its user is not ok. It does not
// allocate.
func ParseSubject(subject string) (user string, class Class, ok bool) {
	shard, user, class := splitSubject(subject)
	if class == "" || user == "" || shard != Shard(user) {
		return "", "", false
	}
	return user, class, true
}

// splitSubject returns the parts of a stored or live subject, right or wrong, or no class if it has none of hark's.
func splitSubject(subject string) (shard, user string, class Class) {
	_, rest, _ := strings.Cut(subject, ".")
	part, rest, _ := strings.Cut(rest, ".")
	if part != "log" && part != "live" {
		return "", "", ""
	}
	shard, rest, _ = strings.Cut(rest, ".")
	user, rest, _ = strings.Cut(rest, ".")
	word, _, _ := strings.Cut(rest, ".")
	switch class = Class(word); class {
	case ClassJob, ClassState, ClassNotification, ClassInbox:
		return shard, user, class
	}
	return "", "", ""
}
