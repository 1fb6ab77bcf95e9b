package inbox

import (
	"context"
	crand "crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/hark-jobs/hark/jobs"
)

// FillerOptions is what a [Filler] needs.
type FillerOptions struct {
	Store *Store
	// JetStream had better have a connection of its own: up to [readBatch] messages come at a time, and what
	// is live would wait behind them.
	JetStream jetstream.JetStream
	// Epoch asks for the incarnation of the stream as it is now.
	Epoch  func(context.Context) (jobs.Epoch, error)
	Logger *slog.Logger // slog.Default() if nil
}

// Filler brings the stream's notifications into the log, in order. Of all that run on one database one
// does the work, and another takes over within about [claimTerm] of its death, or at once when it ends
// in an orderly way.
type Filler struct {
	o         FillerOptions
	name      string
	gather    time.Duration
	condition condition
}

// How the filler paces itself.
const (
	// claimTerm is how long a filler that is not heard of stays the one.
	claimTerm = 6 * time.Second
	// claimTick is how often an idle filler renews its claim and checks that it is idle for a reason, and
	// how often the others look whether they may take over.
	claimTick = 2 * time.Second
	// The pauses between failures, before jitter.
	shortestPause = 100 * time.Millisecond
	longestPause  = 5 * time.Second
)

// NewFiller checks the options. It starts nothing.
func NewFiller(o FillerOptions) (*Filler, error) {
	if o.Store == nil || o.JetStream == nil || o.Epoch == nil {
		return nil, errors.New("inbox: a filler needs Store, JetStream and Epoch")
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return &Filler{o: o, name: crand.Text(), gather: gather}, nil
}

// Run fills the log until ctx ends, and then returns nil. Neither the stream nor the database needs to be
// there: what fails is tried again for ever. It must not be called twice at a time.
func (f *Filler) Run(ctx context.Context) error {
	defer f.release(ctx)
	pause := shortestPause
	for {
		began := time.Now()
		err := f.serve(ctx)
		if ctx.Err() != nil {
			return nil
		}
		f.report(err)
		if time.Since(began) > longestPause {
			pause = shortestPause // it went well for a while
		}
		wait := pause
		switch {
		case errors.Is(err, errNotMine):
			wait = claimTick / 2
		case !errors.Is(err, errReread):
			pause = min(2*pause, longestPause)
		}
		if !sleep(ctx, wait/2+rand.N(wait)) {
			return nil
		}
	}
}

// serve fills the log for as long as this filler is the one and nothing fails. Whatever fails, the next
// call begins at the position that the table holds.
func (f *Filler) serve(ctx context.Context) error {
	epoch, err := f.o.Epoch(ctx)
	if err != nil {
		return fmt.Errorf("%w: epoch: %w", errStream, err)
	}
	at, err := f.o.Store.claim(ctx, epoch, f.name, claimTerm)
	if err != nil {
		return err
	}
	stream, err := f.o.JetStream.Stream(ctx, jobs.StreamName)
	if err != nil {
		return fmt.Errorf("%w: %w", errStream, err)
	}
	if last := stream.CachedInfo().State.LastSeq; at > last {
		f.o.Logger.Warn("inbox: the stream lost its end, as after a power cut; going back to it", "position", at, "last", last)
		if err := f.o.Store.rewind(ctx, epoch, f.name, at, last); err != nil {
			return err
		}
		at = last
	}
	r, err := openReader(ctx, stream, at)
	if err != nil {
		return fmt.Errorf("%w: %w", errStream, err)
	}
	defer r.close(ctx)
	r.gather, r.wanted = f.gather, f.o.Store.wanted
	// What was opened belongs to this epoch only if the stream was not made anew meanwhile.
	if now, err := f.o.Epoch(ctx); err != nil || now != epoch {
		return fmt.Errorf("%w: epoch %d, then %d: %w", errStream, epoch, now, errors.Join(err, errReread))
	}
	f.report(nil)
	return f.fill(ctx, r, epoch, at)
}

// fill moves what r reads into the log until something fails.
func (f *Filler) fill(ctx context.Context, r *reader, epoch jobs.Epoch, at uint64) error {
	do := func(f func()) { f() }
	if f.o.Store.dialect.inProcess {
		own := startThread()
		defer own.stop()
		do = own.do
	}
	for {
		msgs, err := r.next(ctx, claimTick)
		if err != nil {
			return fmt.Errorf("%w: %w", errStream, err)
		}
		if len(msgs) == 0 {
			if _, err := f.o.Store.claim(ctx, epoch, f.name, claimTerm); err != nil {
				return err
			}
			continue
		}
		do(func() {
			b := f.decode(msgs, epoch, at)
			err, at = f.o.Store.fill(ctx, b, f.name, claimTerm), b.to
		})
		if err != nil {
			return err
		}
	}
}

// decode makes entries of messages. What is no notification is logged and left out: it must not keep back
// those behind it.
func (f *Filler) decode(msgs []message, epoch jobs.Epoch, from uint64) batch {
	b := batch{epoch: epoch, from: from, entries: make([]Entry, 0, len(msgs))}
	for _, m := range msgs {
		b.to = m.seq
		e, err := decode(m)
		if err != nil {
			f.o.Logger.Warn("inbox: dropped what is no notification", "subject", m.subject, "seq", m.seq, "err", err)
			continue
		}
		e.ID = jobs.EventID{Epoch: epoch, Seq: m.seq}
		b.entries = append(b.entries, e)
	}
	return b
}

func decode(m message) (e Entry, err error) {
	token, topic, ok := jobs.ParseSubject(m.subject)
	if !ok || topic != jobs.TopicNote {
		return e, errors.New("not the subject of a notification")
	}
	if e.User, err = jobs.UnescapeUser(token); err != nil {
		return e, err
	}
	if e.User != jobs.Everyone {
		if err := jobs.CheckUser(e.User); err != nil {
			return e, err
		}
	}
	if err := json.Unmarshal(m.data, &e.Notification); err != nil {
		return e, err
	}
	n := &e.Notification
	if n.Key != "" && !n.CreatedAt.IsZero() && n.ID == "" && n.Status == "" && n.ReadAt.IsZero() {
		e.body = m.data // all that hark itself publishes: it need not be written anew
	}
	if n.CreatedAt.IsZero() {
		n.CreatedAt = m.stored.UTC()
	}
	// No more than this: what the stream took in and shows live, the log takes as well.
	if n.Type == "" && n.Title == "" {
		return e, errors.New("neither type nor title")
	}
	return e, nil
}

// release lets another process take over at once. If it does not succeed, the claim runs out.
func (f *Filler) release(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = f.o.Store.release(ctx, f.name)
}

// errStream marks a failure of the stream, as opposed to one of the database.
var errStream = errors.New("inbox: stream")

// condition is how a filler stands, as it was last logged; empty at first.
type condition string

const (
	filling       condition = "filling"
	standingBy    condition = "standing by"
	streamFails   condition = "the stream fails"
	databaseFails condition = "the database fails"
)

// report logs how the filler stands, once per change.
func (f *Filler) report(err error) {
	now := filling
	switch {
	case errors.Is(err, errReread):
		return // it goes on at once
	case errors.Is(err, errNotMine):
		now = standingBy
	case errors.Is(err, errStream):
		now = streamFails
	case err != nil:
		now = databaseFails
	}
	before := f.condition
	if f.condition = now; now == before {
		return
	}
	switch now {
	case filling:
		f.o.Logger.Info("inbox: filling the log from the stream")
	case standingBy:
		f.o.Logger.Info("inbox: another process fills the log; standing by")
	default:
		f.o.Logger.Warn("inbox: notifications are not stored in the inbox; trying again: "+string(now), "err", err)
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
