package jobs

import (
	"crypto/sha256"
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/oklog/ulid/v2"
)

// Everyone is the audience of broadcasts. No user may be called so.
const Everyone = "_all"

// MaxUserBytes limits a user id. Escaped it may take three times as much, and NATS wants a subject and
// what stands around it in 4,096 bytes.
const MaxUserBytes = 1200

// The roots of hark's subjects. What is stored under the first is published again under the second.
const (
	storeRoot = "hark."
	liveRoot  = "live."
)

// CheckUser returns an [*InvalidError] if no user may have this id. Any other text may be a user.
func CheckUser(user string) error {
	switch {
	case user == "":
		return invalid("user", "must not be empty")
	case user == Everyone:
		return invalid("user", "must not be %s, which stands for everyone", Everyone)
	case len(user) > MaxUserBytes:
		return invalid("user", "must be at most %d bytes", MaxUserBytes)
	case !utf8.ValidString(user):
		return invalid("user", "must be valid UTF-8")
	}
	return nil
}

var kindPattern = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,62}$`)

// CheckKind returns an [*InvalidError] unless kind can name a kind of job.
func CheckKind(kind string) error {
	if !kindPattern.MatchString(kind) {
		return invalid("kind", "must be 1 to 63 characters of a-z, 0-9, _ and -, not beginning with _ or -")
	}
	return nil
}

var idPattern = regexp.MustCompile(`^[0-7][0-9A-HJKMNP-TV-Z]{25}$`)

// ValidID reports whether id can be a job's id.
func ValidID(id string) bool { return idPattern.MatchString(id) }

func newID() string { return ulid.Make().String() }

// keyedID derives a job's id from its user and idempotency key, so that the same request finds the same
// job after every process was restarted. The length keeps user and key apart.
func keyedID(user, key string) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%d:%s%s", len(user), user, key))
	return ulid.ULID(sum[:16]).String()
}

// EscapeUser makes one NATS subject token of a user id: letters, digits, _ and - stay, every other byte
// becomes =XX. Two users never share a token.
func EscapeUser(user string) string {
	const hex = "0123456789ABCDEF"
	plain := 0
	for plain < len(user) && isPlain(user[plain]) {
		plain++
	}
	if plain == len(user) {
		return user
	}
	b := []byte(user[:plain])
	for i := plain; i < len(user); i++ {
		if c := user[i]; isPlain(c) {
			b = append(b, c)
		} else {
			b = append(b, '=', hex[c>>4], hex[c&15])
		}
	}
	return string(b)
}

// UnescapeUser is the inverse of [EscapeUser]. It accepts what EscapeUser writes and nothing else.
func UnescapeUser(token string) (string, error) {
	user := make([]byte, 0, len(token))
	for i := 0; i < len(token); i++ {
		if c := token[i]; isPlain(c) {
			user = append(user, c)
			continue
		}
		if token[i] != '=' || i+2 >= len(token) {
			return "", fmt.Errorf("jobs: %.60q is not an escaped user", token)
		}
		hi, lo := unhex(token[i+1]), unhex(token[i+2])
		if hi < 0 || lo < 0 || isPlain(byte(hi<<4|lo)) {
			return "", fmt.Errorf("jobs: %.60q is not an escaped user", token)
		}
		user = append(user, byte(hi<<4|lo))
		i += 2
	}
	return string(user), nil
}

func isPlain(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' || c == '-'
}

func unhex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

func orderSubject(user, kind, id string) string {
	return storeRoot + EscapeUser(user) + ".job." + kind + "." + id
}

func stateSubject(user, id string) string { return storeRoot + EscapeUser(user) + ".state." + id }

// NoteSubject is where a user's notifications are stored; pass [Everyone] for the broadcasts.
func NoteSubject(user string) string { return storeRoot + EscapeUser(user) + ".note" }

// LiveSubject matches all that is published live for a user: what is stored, and [LiveInboxSubject].
func LiveSubject(user string) string { return liveRoot + EscapeUser(user) + ".>" }

// LiveSubjects matches all that is published live for anybody.
const LiveSubjects = liveRoot + ">"

// LiveStateSubject is where the states of one job are heard live.
func LiveStateSubject(user, id string) string { return liveRoot + EscapeUser(user) + ".state." + id }

// LiveInboxSubject is where changes of a user's inbox are heard. They are not stored.
func LiveInboxSubject(user string) string { return liveRoot + EscapeUser(user) + ".inbox" }

// Topic says what a message on one of hark's subjects is about.
type Topic string

// The topics, by the word that stands after the user in a subject.
const (
	TopicJob   Topic = "job"
	TopicState Topic = "state"
	TopicNote  Topic = "note"
	TopicInbox Topic = "inbox"
)

// ParseSubject takes a stored or live subject apart into the user's token, as [EscapeUser] makes it, and
// the topic. It allocates nothing.
func ParseSubject(subject string) (userToken string, topic Topic, ok bool) {
	rest, found := strings.CutPrefix(subject, liveRoot)
	if !found {
		if rest, found = strings.CutPrefix(subject, storeRoot); !found {
			return "", "", false
		}
	}
	userToken, rest, _ = strings.Cut(rest, ".")
	word, _, _ := strings.Cut(rest, ".")
	switch t := Topic(word); t {
	case TopicJob, TopicState, TopicNote, TopicInbox:
		return userToken, t, userToken != ""
	}
	return "", "", false
}
