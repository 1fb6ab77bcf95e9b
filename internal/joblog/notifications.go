package joblog

import (
	"context"
	"errors"
	"fmt"

	"github.com/hark-jobs/hark/jobs"
	"github.com/nats-io/nats.go"
)

// StoredNotification is a notification as the stream holds it.
type StoredNotification struct {
	Seq  uint64
	Data []byte // the JSON of a [jobs.Notification] without id, status and read_at
}

// notification reads one stored notification. For a malformed message it returns [jobs.ErrKeyReused]: this request did
// not write it.
func (q *Store) notification(ctx context.Context, user string, seq uint64) (n jobs.Notification, err error) {
	return q.notificationOn(ctx, q.streamFor(user), q.ns.NotificationSubject(user), seq)
}

// notificationOn is notification for a subject of a stream.
func (q *Store) notificationOn(ctx context.Context, stream *keptStream, subject string, seq uint64) (n jobs.Notification, err error) {
	found := false
	_, err = q.direct(ctx, stream.name, directRequest{Batch: 1, Seq: seq, NextBySubject: subject}, func(m *storedMsg) error {
		if found = m.Seq == seq; !found {
			return nil
		}
		var err error
		if n, err = DecodeNotification(m.Data); err != nil {
			q.skip(m, err)
			return jobs.ErrKeyReused
		}
		return nil
	})
	if err == nil && !found { // the replica may lag
		m, err := q.onLeader(ctx, stream.name, leaderRequest{Seq: seq})
		if err != nil {
			return n, fmt.Errorf("joblog: notification: %w", err)
		}
		if m == nil || m.Subject != subject {
			return n, fmt.Errorf("joblog: notification %d is gone", seq)
		}
		if n, err = DecodeNotification(m.Data); err != nil {
			q.skip(m, err)
			err = jobs.ErrKeyReused
		}
		return n, err
	}
	return n, err
}

// hasNotification reports whether the log holds a notification with this key at or after sequence from.
func (q *Store) hasNotification(ctx context.Context, user, key string, from uint64) (found bool, err error) {
	id := q.ns.NotificationSubject(user) + "/" + key
	err = q.scan(ctx, q.streamFor(user), q.ns.NotificationSubject(user), from, func(m *storedMsg) error {
		if m.Header.Get(nats.MsgIdHdr) != id {
			return nil
		}
		if _, err := DecodeNotification(m.Data); err != nil {
			q.skip(m, err)
			return nil
		}
		found = true
		return errStop
	})
	return found, err
}

// pageBytes is the limit of bytes for a page of notifications. The notification that reaches it is still on the page.
const pageBytes = 64 << 10

// NotificationsPage returns up to limit stored notifications of user with sequences greater than after, in order, and
// whether there may be more. If they take more than 64 KiB, it returns fewer than limit, but at least one. The leader
// confirms that there are no more: a replica may not have the last ones yet. For [jobs.Everyone] it returns the broadcasts in
// the first stream.
func (q *Store) NotificationsPage(ctx context.Context, user string, after uint64, limit int) (page []StoredNotification, more bool, err error) {
	return q.notificationsPage(ctx, q.streamFor(user), q.ns.NotificationSubject(user), after, limit)
}

// BroadcastsPage is [Store.NotificationsPage] for the broadcasts in the user's stream.
func (q *Store) BroadcastsPage(ctx context.Context, user string, after uint64, limit int) (page []StoredNotification, more bool, err error) {
	return q.notificationsPage(ctx, q.streamFor(user), q.broadcastSubject(user), after, limit)
}

// broadcastSubject returns the subject of the broadcasts in the user's stream.
func (q *Store) broadcastSubject(user string) string {
	n := q.Streams()
	return q.ns.BroadcastSubject(StreamOfToken(EscapeUser(user), n), n)
}

func (q *Store) notificationsPage(ctx context.Context, stream *keptStream, subject string, after uint64, limit int) (page []StoredNotification, more bool, err error) {
	pending, err := q.bulkFrom(ctx, stream.name, directRequest{Batch: limit, MaxBytes: pageBytes, Seq: after + 1, NextBySubject: subject},
		func(m *storedMsg) error {
			page = append(page, StoredNotification{m.Seq, m.Data})
			return nil
		})
	if err != nil {
		return nil, false, fmt.Errorf("joblog: notifications: %w", err)
	}
	if pending > 0 || q.alone() {
		return page, pending > 0, nil
	}
	if len(page) > 0 {
		after = page[len(page)-1].Seq
	}
	next, err := q.nextOnLeader(ctx, stream.name, subject, after+1)
	if err != nil {
		return nil, false, fmt.Errorf("joblog: notifications: %w", err)
	}
	if next != nil {
		page = append(page, StoredNotification{next.Seq, next.Data})
	}
	return page, next != nil, nil
}

// JobMessages calls each for the stored specs and states of the user's jobs after a sequence: the latest of each, and
// malformed messages too. An error of each ends it and is returned.
func (q *Store) JobMessages(ctx context.Context, user string, after uint64, each func(subject string, seq uint64, data []byte) error) error {
	for _, subject := range []string{q.ns.SpecSubject(user, "*", "*"), q.ns.StateSubject(user, "*")} {
		err := q.scan(ctx, q.streamFor(user), subject, after+1, func(m *storedMsg) error { return each(m.Subject, m.Seq, m.Data) })
		if err != nil {
			return fmt.Errorf("joblog: news: %w", err)
		}
	}
	return nil
}

// LastNotifications returns the sequences of the newest stored notification of the user, and of the newest broadcast in the
// user's stream, or 0. It asks the leader of the stream, with two requests.
func (q *Store) LastNotifications(ctx context.Context, user string) (own, all uint64, err error) {
	for subject, seq := range map[string]*uint64{q.ns.NotificationSubject(user): &own, q.broadcastSubject(user): &all} {
		m, err := q.lastOnLeader(ctx, q.streamFor(user), subject)
		if err != nil {
			return 0, 0, fmt.Errorf("joblog: last notifications: %w", err)
		}
		if m != nil {
			*seq = m.Seq
		}
	}
	return own, all, nil
}

// NextNotification returns the sequence of the first stored notification of user, or with everyone of the first broadcast in the
// user's stream, after a sequence, or 0. On a cluster it asks the leader of the stream, since a replica may not have the last ones
// yet. It blocks for one round trip.
func (q *Store) NextNotification(ctx context.Context, user string, everyone bool, after uint64) (seq uint64, err error) {
	stream, subject := q.streamFor(user), q.ns.NotificationSubject(user)
	if everyone {
		subject = q.broadcastSubject(user)
	}
	if q.alone() {
		_, err = q.direct(ctx, stream.name, directRequest{Batch: 1, Seq: after + 1, NextBySubject: subject}, func(m *storedMsg) error {
			seq = m.Seq
			return nil
		})
		if err != nil {
			err = fmt.Errorf("joblog: next notification: %w", err)
		}
		return seq, err
	}
	m, err := q.nextOnLeader(ctx, stream.name, subject, after+1)
	if err != nil {
		return 0, fmt.Errorf("joblog: next notification: %w", err)
	}
	if m == nil {
		return 0, nil
	}
	return m.Seq, nil
}

// Bounds returns the first and last sequence of a stream, by its number. Sequences outside of [first, last] are not
// available. On a cluster they are from the stream's leader; without one there is an error.
func (q *Store) Bounds(ctx context.Context, number int) (first, last uint64, err error) {
	stream, err := q.stream(number)
	if err != nil {
		return 0, 0, err
	}
	info, err := stream.leaderInfo(ctx)
	if err != nil {
		return 0, 0, fmt.Errorf("joblog: stream info: %w", err)
	}
	return info.State.FirstSeq, info.State.LastSeq, nil
}

// PublishLive publishes data on a live subject. It is not stored; only current subscribers receive it. It does not
// block.
func (q *Store) PublishLive(subject string, data []byte) error {
	if err := q.nc.Publish(subject, data); err != nil && !errors.Is(err, nats.ErrReconnectBufExceeded) {
		return fmt.Errorf("joblog: publish live: %w", err)
	}
	return nil
}
