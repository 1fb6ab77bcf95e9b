package joblog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hark-jobs/hark/jobs"
	"github.com/nats-io/nats.go/jetstream"
)

// ErrReset is returned by [Store.Watch] when events after the position are missing.
var ErrReset = errors.New("joblog: the events after this position are no longer there")

// Event is an event of a user. One of Job and Notification is set.
type Event struct {
	Position     jobs.Position // after the event
	Job          *jobs.Job
	Notification *jobs.Notification
}

// Watch calls each for the events of a user after a position, in the order of the log, until each returns false or ctx ends.
// The zero position means the end of the log. Watch returns nil if each ended it, [ErrReset], or the error of ctx.
//
// The position may be that of an event stream. Watch itself reads both logs through one consumer, in one order. So from the
// greater of the two marks on, both of its marks are the sequence of the last message.
//
// Watch reads through a consumer of its own, in the server's memory. When the connection or the server is lost, the
// consumer is created again at the last read message. When the log is lost, or its epoch ends, Watch returns ErrReset.
func (q *Store) Watch(ctx context.Context, user string, after jobs.Position, each func(Event) bool) error {
	if err := jobs.CheckUser(user); err != nil {
		return err
	}
	infos, err := q.infos(ctx)
	if err != nil {
		return fmt.Errorf("joblog: watch: %w", err)
	}
	epoch, info := greatestEpoch(infos), infos[StreamOfToken(EscapeUser(user), len(infos))]
	switch {
	case after == jobs.Position{}:
		after = jobs.Position{Epoch: epoch, Own: info.State.LastSeq, All: info.State.LastSeq}
	case after.Epoch != epoch || min(after.Own, after.All)+1 < info.State.FirstSeq || max(after.Own, after.All) > info.State.LastSeq:
		return ErrReset
	}
	w := &watch{store: q, user: user, at: after, each: each}
	for try := 0; ; try++ {
		opened, err := w.read(ctx)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil || errors.Is(err, ErrReset) || !opened && try == 0:
			return err
		}
		if err := w.checkEpoch(ctx); errors.Is(err, ErrReset) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(watchPause):
		}
	}
}

// watch is one call of [Store.Watch].
type watch struct {
	store *Store
	user  string
	at    jobs.Position // after the last message that was read
	each  func(Event) bool
}

// checkEpoch returns ErrReset if the epoch is over.
func (w *watch) checkEpoch(ctx context.Context) error {
	now, err := w.store.CurrentEpoch(ctx)
	if err == nil && now != w.at.Epoch {
		err = ErrReset
	}
	return err
}

// read reads events through one consumer. It returns nil if each ended it. Opened reports whether there was a consumer.
func (w *watch) read(ctx context.Context) (opened bool, err error) {
	ns := w.store.ns
	consumer, err := w.store.streamFor(w.user).OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{ns.UserSubjects(w.user), w.store.broadcastSubject(w.user)},
		DeliverPolicy:  jetstream.DeliverByStartSequencePolicy, OptStartSeq: min(w.at.Own, w.at.All) + 1,
		MaxResetAttempts: 1, // with more, Next blocks while there is no stream, whatever its context says
	})
	if err != nil {
		return false, fmt.Errorf("joblog: watch: %w", err)
	}
	messages, err := consumer.Messages()
	if err != nil {
		return false, fmt.Errorf("joblog: watch: %w", err)
	}
	defer messages.Stop()
	for {
		m, err := next(ctx, messages)
		if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
			if err := w.checkEpoch(ctx); errors.Is(err, ErrReset) {
				return true, err
			}
			continue
		}
		if err != nil {
			return true, fmt.Errorf("joblog: watch: %w", err)
		}
		more, err := w.take(ctx, m)
		if err != nil || !more {
			return true, err
		}
	}
}

// take calls each for a message of the log, and returns false if each ended the watch.
func (w *watch) take(ctx context.Context, m jetstream.Msg) (more bool, err error) {
	meta, err := m.Metadata()
	if err != nil {
		return false, fmt.Errorf("joblog: watch: %w", err)
	}
	seq := meta.Sequence.Stream
	mark := w.at.Own
	if m.Subject() == w.store.ns.NotificationSubject(jobs.Everyone) {
		mark = w.at.All
	}
	if seq <= mark { // the other mark is less
		return true, nil
	}
	event, err := w.store.event(ctx, m.Subject(), m.Data())
	if err != nil {
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		if !errors.Is(err, jobs.ErrNotFound) { // a job that is not found has expired meanwhile
			w.store.skip(&storedMsg{Subject: m.Subject(), Seq: seq, Data: m.Data()}, err)
		}
		w.move(seq)
		return true, nil
	}
	w.move(seq)
	event.Position = w.at
	if event.Job != nil {
		event.Job.Revision = max(event.Job.Revision, seq)
	}
	if event.Notification != nil {
		event.Notification.ID, event.Notification.Status = jobs.NotificationID{Epoch: w.at.Epoch, Seq: seq}.String(), jobs.Unread
	}
	return w.each(event), nil
}

// move moves the marks to the sequence of a message. All messages of both logs before it have been read.
func (w *watch) move(seq uint64) {
	w.at.Own, w.at.All = max(w.at.Own, seq), max(w.at.All, seq)
}

// watchPause is the pause before a lost consumer is created again.
const watchPause = 500 * time.Millisecond

// watchIdle is how long a watch waits for a message before it asks for the epoch of the log.
const watchIdle = 5 * time.Second

// next returns the next message, or context.DeadlineExceeded after watchIdle.
func next(ctx context.Context, messages jetstream.MessagesContext) (jetstream.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, watchIdle)
	defer cancel()
	return messages.Next(jetstream.NextContext(ctx))
}

// event decodes a message of the log. A spec does not tell the state of an earlier run, so the job is read.
func (q *Store) event(ctx context.Context, subject string, body []byte) (Event, error) {
	if token, class, ok := q.ParseSubject(subject); ok && token == jobs.Everyone && class == ClassNotification {
		n, err := DecodeNotification(body)
		return Event{Notification: &n}, err
	}
	address, err := ParseAddress(subject)
	if err != nil {
		return Event{}, err
	}
	switch address.Class {
	case ClassJob:
		ctx, cancel := withTimeout(ctx)
		defer cancel()
		if _, err := DecodeSpec(subject, body); err != nil {
			return Event{}, err
		}
		s, err := q.ReadLeader(ctx, address.User, address.Kind, address.ID)
		if err != nil {
			return Event{}, err
		}
		return Event{Job: &s.Job}, nil
	case ClassState:
		job, err := DecodeState(subject, body)
		return Event{Job: &job}, err
	}
	n, err := DecodeNotification(body)
	return Event{Notification: &n}, err
}
