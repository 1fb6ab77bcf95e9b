package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
)

// Note is a notification as the stream holds it.
type Note struct {
	Seq  uint64
	Data []byte // the JSON of a [Notification] without id, status and read_at
}

// note reads one stored notification.
func (q *Queue) note(ctx context.Context, user string, seq uint64) (n Notification, err error) {
	found := false
	_, err = q.direct(ctx, directRequest{Batch: 1, Seq: seq, NextBySubject: NoteSubject(user)}, func(m *storedMsg) error {
		found = m.Seq == seq
		return json.Unmarshal(m.Data, &n)
	})
	if err == nil && !found {
		err = fmt.Errorf("jobs: notification %d is gone", seq)
	}
	return n, err
}

// hasNote reports whether the log holds a notification with this key at or after sequence from.
func (q *Queue) hasNote(ctx context.Context, user, key string, from uint64) (found bool, err error) {
	id := NoteSubject(user) + "/" + key
	err = q.scan(ctx, NoteSubject(user), from, func(m *storedMsg) error {
		if m.Header.Get(nats.MsgIdHdr) == id {
			found = true
			return errStop
		}
		return nil
	})
	return found, err
}

// pageBytes is what a page of notifications takes at most, and one notification more.
const pageBytes = 64 << 10

// NotesPage returns up to limit stored notifications of user, or of [Everyone], with sequences greater than
// after, in order, and whether there are more behind them. There are fewer than limit, but one at least, if they
// take more than 64 KiB.
func (q *Queue) NotesPage(ctx context.Context, user string, after uint64, limit int) (page []Note, more bool, err error) {
	pending, err := q.bulkFrom(ctx, StreamName, directRequest{Batch: limit, MaxBytes: pageBytes, Seq: after + 1, NextBySubject: NoteSubject(user)},
		func(m *storedMsg) error {
			page = append(page, Note{m.Seq, m.Data})
			return nil
		})
	if err != nil {
		return nil, false, fmt.Errorf("jobs: notes: %w", err)
	}
	return page, pending > 0, nil
}

// News calls each for the orders and states of the user's jobs that were stored after a sequence and still
// are, that is, the latest of each. An error of each ends it and is returned.
func (q *Queue) News(ctx context.Context, user string, after uint64, each func(topic Topic, seq uint64, data []byte) error) error {
	for topic, subject := range map[Topic]string{TopicJob: orderSubject(user, "*", "*"), TopicState: stateSubject(user, "*")} {
		err := q.scan(ctx, subject, after+1, func(m *storedMsg) error { return each(topic, m.Seq, m.Data) })
		if err != nil {
			return fmt.Errorf("jobs: news: %w", err)
		}
	}
	return nil
}

// LastNotes returns the sequences of the newest stored notification of user and of [Everyone]; 0 means
// that there is none.
func (q *Queue) LastNotes(ctx context.Context, user string) (own, everyone uint64, err error) {
	subject := NoteSubject(user)
	err = q.lastOf(ctx, []string{subject, NoteSubject(Everyone)}, func(m *storedMsg) error {
		if m.Subject == subject {
			own = m.Seq
		} else {
			everyone = m.Seq
		}
		return nil
	})
	if err != nil {
		return 0, 0, fmt.Errorf("jobs: last notes: %w", err)
	}
	return own, everyone, nil
}

// Bounds returns the first and last sequence that the stream holds. A notification after the last one, or
// one that may have stood before the first, is not to be had.
func (q *Queue) Bounds(ctx context.Context) (first, last uint64, err error) {
	info, err := q.stream.Info(ctx)
	if err != nil {
		return 0, 0, fmt.Errorf("jobs: stream info: %w", err)
	}
	return info.State.FirstSeq, info.State.LastSeq, nil
}

// PublishLive publishes data on a live subject, to be heard by whoever listens right now. It does not block.
func (q *Queue) PublishLive(subject string, data []byte) error {
	if err := q.nc.Publish(subject, data); err != nil && !errors.Is(err, nats.ErrReconnectBufExceeded) {
		return fmt.Errorf("jobs: publish live: %w", err)
	}
	return nil
}
