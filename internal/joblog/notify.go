package joblog

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/hark-jobs/hark/jobs"
	"github.com/nats-io/nats.go"
)

// Notify stores a notification for a user, or for [jobs.Everyone], and returns it with its id. Without a key it gets a
// new one. If the key was used for that user before, within [DedupeWindow], nothing is stored and the first notification
// is returned.
//
// Errors: an [*jobs.InvalidError], [jobs.ErrKeyReused] when the first notification had other content.
func (q *Store) Notify(ctx context.Context, user string, n jobs.Notification) (stored jobs.Notification, created bool, err error) {
	addressed := jobs.Addressed{User: user, Notification: n}
	keyed, err := prepare(&addressed)
	if err != nil {
		return jobs.Notification{}, false, err
	}
	a, err := q.publishNotification(ctx, user, addressed.Notification, make(nats.Header, 1))
	if err != nil {
		return jobs.Notification{}, false, err
	}
	return q.storedWithKey(ctx, addressed, keyed, a)
}

// NotifyAll stores several notifications, as [Store.Notify] does for one, and sends them to the stream together. They
// are stored in order, except for those that are retried. All are validated before any is stored. It returns them as
// they are stored, and how many of them are new. It blocks for one round trip for each hundred, and for one for each
// duplicate key.
//
// The error is a [*jobs.BatchError] for the first failed one. Unless it is an [*jobs.InvalidError], others may be
// stored. Calling NotifyAll again stores the missing ones; a notification with a key is not stored twice.
func (q *Store) NotifyAll(ctx context.Context, all []jobs.Addressed) (stored []jobs.Notification, created int, err error) {
	all = slices.Clone(all) // prepare changes them, and they are the caller's
	keyed, msgs := make([]bool, len(all)), make([]*nats.Msg, len(all))
	for i, addressed := range all {
		if keyed[i], err = prepare(&addressed); err == nil {
			msgs[i], err = q.notificationMessage(addressed.User, addressed.Notification, make(nats.Header, 1))
		}
		if err != nil {
			return nil, 0, &jobs.BatchError{Index: i, Err: err}
		}
		all[i] = addressed
	}
	stored = make([]jobs.Notification, len(all))
	for i, a := range q.writes.publishAll(ctx, msgs) {
		isNew := false
		if a.err == nil {
			stored[i], isNew, a.err = q.storedWithKey(ctx, all[i], keyed[i], a.ack)
		}
		if a.err != nil && err == nil {
			err = &jobs.BatchError{Index: i, Err: a.err}
		}
		if isNew {
			created++
		}
	}
	return stored, created, err
}

// prepare validates a notification, and sets its time, and a key if it has none. keyed reports whether it had one.
func prepare(a *jobs.Addressed) (keyed bool, err error) {
	if a.User != jobs.Everyone {
		if err := jobs.CheckUser(a.User); err != nil {
			return false, err
		}
	}
	n := &a.Notification
	if err := n.Check(); err != nil {
		return false, err
	}
	n.ID, n.Status, n.ReadAt = "", "", time.Time{}
	n.CreatedAt = time.Now().UTC().Truncate(time.Millisecond)
	keyed = n.Key != ""
	if !keyed {
		n.Key = newID()
	}
	return keyed, nil
}

// storedWithKey returns the stored notification after a publish: this one, or the earlier one with the same key.
func (q *Store) storedWithKey(ctx context.Context, addressed jobs.Addressed, keyed bool, a ack) (stored jobs.Notification, created bool, err error) {
	n := addressed.Notification
	if a.duplicate && keyed {
		first, err := q.notification(ctx, addressed.User, a.seq)
		if err != nil {
			return jobs.Notification{}, false, err
		}
		if !sameContent(first, n) {
			return jobs.Notification{}, false, jobs.ErrKeyReused
		}
		n = first
	}
	n.ID, n.Status = jobs.NotificationID{Epoch: q.Epoch(), Seq: a.seq}.String(), jobs.Unread
	return n, !a.duplicate || !keyed, nil // without a key a duplicate is this message, which was sent again
}

func sameContent(a, b jobs.Notification) bool {
	a.CreatedAt = b.CreatedAt
	x, err1 := json.Marshal(a)
	y, err2 := json.Marshal(b)
	return err1 == nil && err2 == nil && string(x) == string(y)
}

// publishNotification stores n under the conditions in the header.
func (q *Store) publishNotification(ctx context.Context, user string, n jobs.Notification, header nats.Header) (ack, error) {
	m, err := q.notificationMessage(user, n, header)
	if err != nil {
		return ack{}, err
	}
	a, err := q.writes.publish(ctx, m)
	if err != nil {
		return ack{}, fmt.Errorf("joblog: notify: %w", err)
	}
	return a, nil
}

// notificationMessage returns the message that stores n. It adds the message id to the header, by which JetStream drops
// duplicates of the same user and key.
func (q *Store) notificationMessage(user string, n jobs.Notification, header nats.Header) (*nats.Msg, error) {
	body, err := json.Marshal(&n)
	if err != nil {
		return nil, fmt.Errorf("joblog: notify: %w", err)
	}
	subject := q.ns.NotificationSubject(user)
	header[nats.MsgIdHdr] = []string{subject + "/" + n.Key}
	return &nats.Msg{Subject: subject, Header: header, Data: body}, nil
}
