package joblog

import (
	"context"
	"encoding/json"
	"errors"
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
// A broadcast is stored in each stream of the log. Its id is that in the first one, and each user has it under the id of their
// own stream. If a stream cannot be written, Notify returns an error, and the users of other streams may have the broadcast.
// Calling Notify again with the same key stores it where it is missing.
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
	stored, created, err = q.storedWithKey(ctx, addressed, keyed, a)
	if err != nil || user != jobs.Everyone || q.Streams() == 1 {
		return stored, created, err
	}
	more, errs := q.spreadBroadcasts(ctx, []jobs.Notification{stored})
	if errs[0] != nil {
		return jobs.Notification{}, false, errs[0]
	}
	return stored, created || more[0], nil
}

// spreadBroadcasts stores broadcasts, which the first stream has, in the other streams of the log. It returns for each whether
// some other stream did not have it, and its error. The first stream decides what a key stands for, so no two streams have
// different broadcasts with one key.
func (q *Store) spreadBroadcasts(ctx context.Context, all []jobs.Notification) (created []bool, errs []error) {
	created, errs = make([]bool, len(all)), make([]error, len(all))
	streams := q.streams()
	others := streams[1:]
	msgs := make([]*nats.Msg, 0, len(all)*len(others))
	for i, n := range all {
		for j := range others {
			m, err := messageOf(q.ns.BroadcastSubject(j+1, len(streams)), withoutID(n), make(nats.Header, 1))
			if err != nil {
				errs[i], m = err, &nats.Msg{}
			}
			msgs = append(msgs, m)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return created, errs
	}
	for at, a := range q.writes.publishAll(ctx, msgs) {
		i, stream := at/len(others), others[at%len(others)]
		err := a.err
		switch {
		case err == nil && a.duplicate:
			var first jobs.Notification
			if first, err = q.notificationOn(ctx, stream, msgs[at].Subject, a.seq); err == nil && !sameContent(first, withoutID(all[i])) {
				err = jobs.ErrKeyReused
			}
		case err == nil:
			created[i] = true
		default:
			err = fmt.Errorf("joblog: notify everyone: stream %s: %w", stream.name, err)
		}
		if errs[i] == nil {
			errs[i] = err
		}
	}
	return created, errs
}

// withoutID returns the notification as it is stored.
func withoutID(n jobs.Notification) jobs.Notification {
	n.ID, n.Status = "", ""
	return n
}

// NotifyAll stores several notifications, as [Store.Notify] does for one, and sends them to the log together. Those of one
// user are stored in order, except for those that are retried. With several streams, broadcasts are stored in the others after
// all the rest. All are validated before any is stored. It returns them as
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
	isNew, errs := make([]bool, len(all)), make([]error, len(all))
	var broadcasts []int
	for i, a := range q.writes.publishAll(ctx, msgs) {
		if errs[i] = a.err; a.err == nil {
			stored[i], isNew[i], errs[i] = q.storedWithKey(ctx, all[i], keyed[i], a.ack)
		}
		if errs[i] == nil && all[i].User == jobs.Everyone && q.Streams() > 1 {
			broadcasts = append(broadcasts, i)
		}
	}
	if len(broadcasts) > 0 {
		first := make([]jobs.Notification, len(broadcasts))
		for at, i := range broadcasts {
			first[at] = stored[i]
		}
		more, failed := q.spreadBroadcasts(ctx, first)
		for at, i := range broadcasts {
			isNew[i], errs[i] = errs[i] == nil && failed[at] == nil && (isNew[i] || more[at]), failed[at]
		}
	}
	for i := range all {
		if isNew[i] {
			created++
		}
		if errs[i] != nil {
			stored[i] = jobs.Notification{}
			if err == nil {
				err = &jobs.BatchError{Index: i, Err: errs[i]}
			}
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
	return messageOf(q.ns.NotificationSubject(user), n, header)
}

// messageOf returns the message that stores n on a subject.
func messageOf(subject string, n jobs.Notification, header nats.Header) (*nats.Msg, error) {
	body, err := json.Marshal(&n)
	if err != nil {
		return nil, fmt.Errorf("joblog: notify: %w", err)
	}
	header[nats.MsgIdHdr] = []string{subject + "/" + n.Key}
	return &nats.Msg{Subject: subject, Header: header, Data: body}, nil
}
