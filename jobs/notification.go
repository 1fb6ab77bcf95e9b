package jobs

import (
	"encoding/json"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Notification is a message to a user: one entry of their inbox.
type Notification struct {
	// ID is a [NotificationID]. It is not part of the stored message, which has its sequence anyway.
	ID    string `json:"id,omitempty"`
	Key   string `json:"key"`
	Type  string `json:"type"`
	Title string `json:"title"`
	Body  string `json:"body,omitempty"`
	// Link is where an application wants its user to go. hark sets no links of its own: only the reader knows hark's URL,
	// which may be below a path of a proxy.
	Link  string          `json:"link,omitempty"`
	Data  json.RawMessage `json:"data,omitempty"`
	JobID string          `json:"job_id,omitempty"`
	// File is the file of the job JobID.
	File *File `json:"file,omitempty"`
	// Status is "unread" or "read". It is kept in the inbox and is not part of the stored message.
	Status    string    `json:"status,omitempty"`
	CreatedAt time.Time `json:"created_at"`
	ReadAt    time.Time `json:"read_at,omitzero"`
}

// The two values of [Notification.Status].
const (
	Unread = "unread"
	Read   = "read"
)

// Check returns an [*InvalidError] for the first invalid field.
func (n *Notification) Check() error {
	switch {
	case n.Title == "" || utf8.RuneCountInString(n.Title) > MaxTitleChars:
		return invalid("title", "must have 1 to %d characters", MaxTitleChars)
	case checkType(n.Type) != nil:
		return checkType(n.Type)
	case utf8.RuneCountInString(n.Body) > MaxTextChars:
		return invalid("body", "must have at most %d characters", MaxTextChars)
	case len(n.Data) > 16<<10:
		return invalid("data", "must be at most 16 KiB of JSON")
	case len(n.Key) > MaxKeyBytes:
		return invalid("key", "must be at most %d bytes", MaxKeyBytes)
	case strings.TrimSpace(n.Key) != n.Key || strings.ContainsFunc(n.Key, unicode.IsControl):
		// The key becomes a header. Such characters get lost there, and two keys would become one.
		return invalid("key", "must be one line without spaces around it")
	case n.Link != "" && !SafeLink(n.Link):
		return invalid("link", "must be a path like /reports/7 or an http(s) URL of at most 2,000 bytes")
	case n.tooLarge():
		return invalid("data", "must be smaller, with the body: as JSON, where <, > and & take 6 bytes each, the notification has more than %d KiB", MaxNotificationBytes>>10)
	}
	return nil
}

// MaxNotificationBytes is how many bytes a stored notification may have. One notification must fit into the backlog of a slow
// stream.
const MaxNotificationBytes = 48 << 10

// tooLarge reports whether n has more than [MaxNotificationBytes]. Only long notifications are marshalled: an escape has six
// bytes for one.
func (n *Notification) tooLarge() bool {
	if 6*(len(n.Body)+len(n.Data)+len(n.Link)+len(n.Title)+len(n.Key)+len(n.Type)) < MaxNotificationBytes-1<<10 {
		return false
	}
	text, err := json.Marshal(n)
	return err == nil && len(text) > MaxNotificationBytes // publishing returns the error of invalid JSON
}

// SafeLink reports whether a browser may follow link: a path on the same server, or an http(s) URL. It is applied to input and
// to output, since the log may hold messages of other programs. The page has the same rule (notifier/web/assets/link.js), and
// one table tests both.
func SafeLink(link string) bool {
	if len(link) > 2000 || strings.ContainsFunc(link, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '\\' }) {
		return false
	}
	if strings.HasPrefix(link, "/") {
		return !strings.HasPrefix(link, "//")
	}
	return strings.HasPrefix(link, "https://") || strings.HasPrefix(link, "http://")
}
