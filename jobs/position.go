package jobs

import (
	"fmt"
	"strconv"
	"strings"
)

// Epoch identifies a period in which the stream uses each sequence for one message only. It is the time in Unix milliseconds
// when the stream was created or, if that is later, when a new epoch was begun because the stream had gone back. Sequences
// of different epochs cannot be compared. A later epoch is a greater number.
type Epoch int64

// NotificationID is the id of a notification: where the log has stored it. It is not where a reader continues: see [Position].
type NotificationID struct {
	Epoch Epoch
	Seq   uint64
}

// String returns the id as in [Notification.ID].
func (id NotificationID) String() string {
	return strconv.FormatInt(int64(id.Epoch), 36) + "-" + strconv.FormatUint(id.Seq, 10)
}

// Position returns the position of a reader that has everything up to and including the notification, broadcasts too.
func (id NotificationID) Position() Position { return Position{id.Epoch, id.Seq, id.Seq} }

// ParseNotificationID is the inverse of [NotificationID.String]. It returns an error for any other form.
func ParseNotificationID(s string) (NotificationID, error) {
	epoch, seq, ok := strings.Cut(s, "-")
	if ok && len(s) <= 40 {
		e, err1 := strconv.ParseInt(epoch, 36, 64)
		n, err2 := strconv.ParseUint(seq, 10, 64)
		if id := (NotificationID{Epoch(e), n}); err1 == nil && err2 == nil && id.String() == s && e >= 0 {
			return id, nil
		}
	}
	return NotificationID{}, fmt.Errorf("jobs: %.60q is not the id of a notification", s)
}

// Position is how far a reader has got the events of a user: the id of an event of a stream. A reader continues after it. It has
// two marks, since the user's own messages and the broadcasts reach a stream apart from each other. Each mark says that the reader
// has everything up to it from that log, and nothing of the other log. One mark for both would let what is late in one log be
// skipped for what came in the other.
type Position struct {
	Epoch Epoch
	// Own is the last sequence of the user's own messages that the reader has, All that of the broadcasts.
	Own, All uint64
}

// String returns the position as the id of an event. Clients outside of hark send it back as it is; its form may change.
func (p Position) String() string { return string(p.Append(nil)) }

// Append appends the text of [Position.String] to b.
func (p Position) Append(b []byte) []byte {
	b = strconv.AppendInt(b, int64(p.Epoch), 36)
	b = strconv.AppendUint(append(b, '-'), p.Own, 36)
	return strconv.AppendUint(append(b, '-'), p.All, 36)
}

// maxPositionBytes is more than the length of any position.
const maxPositionBytes = 60

// ParsePosition is the inverse of [Position.String]. It returns an error for any other form.
func ParsePosition(s string) (Position, error) {
	if parts := strings.Split(s[:min(len(s), maxPositionBytes)], "-"); len(parts) == 3 {
		epoch, err1 := strconv.ParseInt(parts[0], 36, 64)
		own, err2 := strconv.ParseUint(parts[1], 36, 64)
		all, err3 := strconv.ParseUint(parts[2], 36, 64)
		if p := (Position{Epoch(epoch), own, all}); err1 == nil && err2 == nil && err3 == nil && epoch >= 0 && p.String() == s {
			return p, nil
		}
	}
	return Position{}, fmt.Errorf("jobs: %.60q is not the id of an event", s)
}
