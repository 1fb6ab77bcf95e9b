package jobs

import (
	"regexp"
	"unicode/utf8"
)

// Everyone is the recipient of broadcasts. It is not a valid user id.
const Everyone = "_all"

// MaxUserBytes limits a user id. Escaped it may be three times as long, and NATS limits a protocol line with a subject to
// 4,096 bytes.
const MaxUserBytes = 1200

// CheckUser returns an [*InvalidError] if user is not a valid user id.
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

// CheckKind returns an [*InvalidError] if kind is not a valid name of a kind.
func CheckKind(kind string) error {
	if !kindPattern.MatchString(kind) {
		return invalid("kind", "must be 1 to 63 characters of a-z, 0-9, _ and -, not beginning with _ or -")
	}
	return nil
}

var idPattern = regexp.MustCompile(`^[0-7][0-9A-HJKMNP-TV-Z]{25}$`)

// ValidID reports whether id is a valid job id.
func ValidID(id string) bool { return idPattern.MatchString(id) }
