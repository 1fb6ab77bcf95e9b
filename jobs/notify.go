package jobs

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
)

// Notice is a notification and whom it is for: a user, or [Everyone].
type Notice struct {
	User         string
	Notification Notification
}

// NoticeError says which of several notices failed.
type NoticeError struct {
	Index int
	Err   error
}

func (e *NoticeError) Error() string { return fmt.Sprintf("jobs: notice %d: %v", e.Index, e.Err) }
func (e *NoticeError) Unwrap() error { return e.Err }

// Notify stores a notification for a user, or for [Everyone], and returns it with its id: the user's
// inbox and streams will get it. Without a key it gets one of its own. With a key that was used for that
// user before, within [DedupeWindow], nothing is stored and the first one is returned.
//
// Errors: an [*InvalidError], [ErrKeyReused] when the first one had other content.
func (q *Queue) Notify(ctx context.Context, user string, n Notification) (stored Notification, created bool, err error) {
	notice := Notice{user, n}
	keyed, err := notice.prepare()
	if err != nil {
		return Notification{}, false, err
	}
	a, err := q.publishNote(ctx, user, notice.Notification, make(nats.Header, 1))
	if err != nil {
		return Notification{}, false, err
	}
	return q.noted(ctx, notice, keyed, a)
}

// NotifyAll does for each of several notices what [Queue.Notify] does for one, and costs less: they are on their way to
// the stream together. They are stored in their order, but for one that the server could not take at once. All are
// checked before any is stored. It returns them as they are stored, and how many of them were not before.
//
// The error is a [*NoticeError] for the first that failed. Unless it is an [*InvalidError], others may be stored. To
// call it again makes good for what is not; what has a key is not told twice by that. It blocks for a round trip for
// each hundred, and one for each that was stored before.
func (q *Queue) NotifyAll(ctx context.Context, notices []Notice) (stored []Notification, created int, err error) {
	notices = slices.Clone(notices) // what each gets before it is stored is not the caller's
	keyed, msgs := make([]bool, len(notices)), make([]*nats.Msg, len(notices))
	for i, notice := range notices {
		if keyed[i], err = notice.prepare(); err == nil {
			msgs[i], err = noteMessage(notice.User, notice.Notification, make(nats.Header, 1))
		}
		if err != nil {
			return nil, 0, &NoticeError{i, err}
		}
		notices[i] = notice
	}
	stored = make([]Notification, len(notices))
	for i, a := range q.writes.publishAll(ctx, msgs) {
		isNew := false
		if a.err == nil {
			stored[i], isNew, a.err = q.noted(ctx, notices[i], keyed[i], a.ack)
		}
		if a.err != nil && err == nil {
			err = &NoticeError{i, a.err}
		}
		if isNew {
			created++
		}
	}
	return stored, created, err
}

// prepare checks a notice, and gives it what it has not got before it is stored: the time, and a key if it is not keyed.
func (n *Notice) prepare() (keyed bool, err error) {
	if n.User != Everyone {
		if err := CheckUser(n.User); err != nil {
			return false, err
		}
	}
	note := &n.Notification
	if err := note.Check(); err != nil {
		return false, err
	}
	note.ID, note.Status, note.ReadAt = "", "", time.Time{}
	note.CreatedAt = time.Now().UTC().Truncate(time.Millisecond)
	keyed = note.Key != ""
	if !keyed {
		note.Key = newID()
	}
	return keyed, nil
}

// noted says what a notice, which the stream has taken, is there: itself, or the one that came first with its key.
func (q *Queue) noted(ctx context.Context, notice Notice, keyed bool, a ack) (stored Notification, created bool, err error) {
	n := notice.Notification
	if a.duplicate && keyed {
		first, err := q.note(ctx, notice.User, a.seq)
		if err != nil {
			return Notification{}, false, err
		}
		if !sameContent(first, n) {
			return Notification{}, false, ErrKeyReused
		}
		n = first
	}
	n.ID, n.Status = EventID{q.Epoch(), a.seq}.String(), Unread
	return n, !a.duplicate, nil
}

func sameContent(a, b Notification) bool {
	a.CreatedAt = b.CreatedAt
	x, err1 := json.Marshal(a)
	y, err2 := json.Marshal(b)
	return err1 == nil && err2 == nil && string(x) == string(y)
}

// publishNote stores n as it is, under the conditions in the header.
func (q *Queue) publishNote(ctx context.Context, user string, n Notification, header nats.Header) (ack, error) {
	m, err := noteMessage(user, n, header)
	if err != nil {
		return ack{}, err
	}
	a, err := q.writes.publish(ctx, m)
	if err != nil {
		return ack{}, fmt.Errorf("jobs: notify: %w", err)
	}
	return a, nil
}

// noteMessage makes the message that stores n. The message id, which it adds to the header, makes JetStream
// drop what was stored before under the same user and key.
func noteMessage(user string, n Notification, header nats.Header) (*nats.Msg, error) {
	body, err := json.Marshal(&n)
	if err != nil {
		return nil, fmt.Errorf("jobs: notify: %w", err)
	}
	subject := NoteSubject(user)
	header[nats.MsgIdHdr] = []string{subject + "/" + n.Key}
	return &nats.Msg{Subject: subject, Header: header, Data: body}, nil
}
