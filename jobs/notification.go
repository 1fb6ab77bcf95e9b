package jobs

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Notification is what a user is told: one entry in their inbox.
type Notification struct {
	// ID is the id of its stream event, "<epoch>-<sequence>". It is not part of the stored message,
	// which has its sequence anyway.
	ID    string          `json:"id,omitempty"`
	Key   string          `json:"key"`
	Type  string          `json:"type"`
	Title string          `json:"title"`
	Body  string          `json:"body,omitempty"`
	Link  string          `json:"link,omitempty"`
	Data  json.RawMessage `json:"data,omitempty"`
	JobID string          `json:"job_id,omitempty"`
	// Status is "unread" or "read". It lives in the inbox alone and is not part of the stored message.
	Status    string    `json:"status,omitempty"`
	CreatedAt time.Time `json:"created_at"`
	ReadAt    time.Time `json:"read_at,omitzero"`
}

// The two values of [Notification.Status].
const (
	Unread = "unread"
	Read   = "read"
)

// Check returns the first reason why n cannot be stored, as an [*InvalidError].
func (n *Notification) Check() error {
	switch {
	case n.Title == "" || utf8.RuneCountInString(n.Title) > MaxTitleChars:
		return invalid("title", "must have 1 to %d characters", MaxTitleChars)
	case n.Type == "" || len(n.Type) > 100 || strings.ContainsFunc(n.Type, func(r rune) bool { return r <= ' ' || r > '~' }):
		return invalid("type", "must be 1 to 100 printable ASCII characters without spaces, like invoice.paid")
	case utf8.RuneCountInString(n.Body) > 4000:
		return invalid("body", "must have at most 4,000 characters")
	case len(n.Data) > 16<<10:
		return invalid("data", "must be at most 16 KiB of JSON")
	case len(n.Key) > MaxKeyBytes:
		return invalid("key", "must be at most %d bytes", MaxKeyBytes)
	case strings.TrimSpace(n.Key) != n.Key || strings.ContainsFunc(n.Key, unicode.IsControl):
		// As a message id it stands in a header, where such characters get lost, and two keys become one.
		return invalid("key", "must be one line without spaces around it")
	case n.Link != "" && !SafeLink(n.Link):
		return invalid("link", "must be a path like /reports/7 or an http(s) URL of at most 2,000 bytes")
	case n.tooLarge():
		return invalid("data", "must be smaller, with the body: as JSON, where <, > and & take 6 bytes each, the notification has more than %d KiB", MaxNotificationBytes>>10)
	}
	return nil
}

// MaxNotificationBytes is how many bytes a notification may have as it is stored. Each stream whose reader is slow keeps
// some of them whole, so one must be smaller than what a stream may owe its reader.
const MaxNotificationBytes = 48 << 10

// tooLarge reports whether n has more than [MaxNotificationBytes]. Only few are worth measuring: what is written as an
// escape has six bytes for one.
func (n *Notification) tooLarge() bool {
	if 6*(len(n.Body)+len(n.Data)+len(n.Link)+len(n.Title)+len(n.Key)+len(n.Type)) < MaxNotificationBytes-1<<10 {
		return false
	}
	text, err := json.Marshal(n)
	return err == nil && len(text) > MaxNotificationBytes // what is no JSON is found out when it is stored
}

// SafeLink reports whether a browser may follow link: a path on the same server, or an http(s) URL. It is the one rule
// for what is taken in and for what is given out: a log may hold messages that are older than the rule, or foreign.
// The page has the same rule (notifier/web/assets/link.js), and one table tests both.
func SafeLink(link string) bool {
	if len(link) > 2000 || strings.ContainsFunc(link, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '\\' }) {
		return false
	}
	if strings.HasPrefix(link, "/") {
		return !strings.HasPrefix(link, "//")
	}
	return strings.HasPrefix(link, "https://") || strings.HasPrefix(link, "http://")
}

// Epoch names one incarnation of the stream: the time it was created, in Unix milliseconds. Sequences of
// different epochs have nothing to do with each other.
type Epoch int64

// EventID is where a notification stands: the epoch of its stream, and its sequence there.
type EventID struct {
	Epoch Epoch
	Seq   uint64
}

// String returns the id as it stands in a stream event and in [Notification.ID].
func (id EventID) String() string {
	return strconv.FormatInt(int64(id.Epoch), 36) + "-" + strconv.FormatUint(id.Seq, 10)
}

// ParseEventID reads what [EventID.String] wrote. It accepts that form alone.
func ParseEventID(s string) (EventID, error) {
	epoch, seq, ok := strings.Cut(s, "-")
	if ok && len(s) <= 40 {
		e, err1 := strconv.ParseInt(epoch, 36, 64)
		n, err2 := strconv.ParseUint(seq, 10, 64)
		if id := (EventID{Epoch(e), n}); err1 == nil && err2 == nil && id.String() == s && e >= 0 {
			return id, nil
		}
	}
	return EventID{}, fmt.Errorf("jobs: %.60q is not an event id", s)
}
