package joblog

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/hark-jobs/hark/jobs"
)

// Limits of one list, whatever the size of params and results and the number of jobs.
const (
	// windowCost is how many bytes a window of the log may cost to read. Each spec that is kept counts specCost more.
	windowCost = 8 << 20
	specCost   = 1 << 10
	// probeCost is how many bytes of a window are read before it can be found too large.
	probeCost = 1 << 20
	// minWindow is the least width of a window in sequences.
	minWindow = 64
	// statesBytes is the limit of bytes for the states of one read, of more than one job.
	statesBytes = 2 << 20
	// pageJobBytes is the limit of bytes for the jobs of a page, without the last one.
	pageJobBytes = 1 << 20
	// listCost is how many bytes of the log are read for one page.
	listCost = 64 << 20
)

// defaultLimit is the default number of jobs on a page.
const defaultLimit = 50

// List returns a user's jobs, newest first. A page has fewer jobs than the limit, perhaps none, and a cursor for the
// next page, if its jobs take more than 1 MiB, or if more than 64 MiB of the log were read for it. The jobs of all users are
// in the order in which the streams have stored their specs, by the clocks of the NATS servers if there are several.
//
// List walks the specs backwards in windows that grow, so a page costs a few reads wherever the user's jobs are in the
// stream. Where specs are large the windows are narrow.
//
// Errors: [jobs.ErrCursor].
func (q *Store) List(ctx context.Context, user string, opts jobs.ListOptions) (jobs.Page, error) {
	if opts.Limit == 0 {
		opts.Limit = defaultLimit
	}
	subject, streams := q.ns.SpecSubject(user, "*", "*"), []*keptStream{q.streamFor(user)}
	if opts.Everyone {
		subject, streams = q.ns.SpecSubjects("*", "*"), q.streams()
	}
	list := listing{store: q, opts: opts}
	after, err := parseCursor(opts.After, len(streams))
	if err != nil {
		return jobs.Page{}, err
	}
	for i, stream := range streams {
		w, err := q.walkBack(ctx, stream, subject, after[i])
		if err != nil {
			return jobs.Page{}, err
		}
		list.walks = append(list.walks, w)
	}
	return list.fill(ctx)
}

// listing builds a page from walks, one for each stream.
type listing struct {
	store *Store
	opts  jobs.ListOptions
	walks []*walk
	page  jobs.Page
	size  int // bytes of its jobs
	spent int // cost of the windows that were read
}

// fill takes jobs from the walks until the page is full, or nothing is left, or too much was read.
func (l *listing) fill(ctx context.Context) (jobs.Page, error) {
	for {
		var newest *walk
		for _, w := range l.walks {
			enough, err := w.find(ctx, l)
			if err != nil {
				return jobs.Page{}, err
			}
			if enough {
				l.page.Next = l.cursor()
				return l.page, nil
			}
			if len(w.found) > 0 && (newest == nil || w.head().storedAt.After(newest.head().storedAt)) {
				newest = w
			}
		}
		switch {
		case newest == nil:
			return l.page, nil
		case len(l.page.Jobs) == l.opts.Limit || l.size > pageJobBytes:
			l.page.Next = l.cursor()
			return l.page, nil
		}
		s := newest.take()
		l.size += max(s.specSize, s.stateSize) // the job contains about the larger of both
		l.page.Jobs = append(l.page.Jobs, s.Job)
	}
}

// cursor returns the cursor of the next page: where each walk continues.
func (l *listing) cursor() string {
	var b strings.Builder
	for i, w := range l.walks {
		if i > 0 {
			b.WriteByte('.')
		}
		b.WriteString(strconv.FormatUint(w.next, 10))
	}
	return b.String()
}

// parseCursor returns the positions in a cursor: a sequence for each stream, before which the page begins. Without a cursor
// they are the greatest ones.
func parseCursor(text string, streams int) ([]uint64, error) {
	after := make([]uint64, streams)
	for i := range after {
		after[i] = math.MaxUint64
	}
	if text == "" {
		return after, nil
	}
	words := strings.Split(text, ".")
	if len(words) != streams {
		return nil, jobs.ErrCursor
	}
	for i, word := range words {
		seq, err := strconv.ParseUint(word, 10, 64)
		if err != nil || seq == 0 {
			return nil, jobs.ErrCursor
		}
		after[i] = seq
	}
	return after, nil
}

// walk goes through the specs of a stream backwards.
type walk struct {
	store   *Store
	stream  *keptStream
	subject string
	first   uint64 // of the stream
	high    uint64 // the next window ends here; 0 at the end
	width   uint64 // of the next window

	open  *window     // the window that is being read, or nil
	specs []*Snapshot // of the window, without their states, the oldest first
	found []*Snapshot // with their states, the oldest first
	next  uint64      // the specs with this sequence and greater ones are done
}

// walkBack returns a walk that begins before a sequence.
func (q *Store) walkBack(ctx context.Context, stream *keptStream, subject string, before uint64) (*walk, error) {
	info, err := stream.Info(ctx)
	if err != nil {
		return nil, fmt.Errorf("joblog: list: %w", err)
	}
	w := &walk{store: q, stream: stream, subject: subject, first: info.State.FirstSeq, width: 4096}
	w.high = min(info.State.LastSeq, before-1)
	w.next = w.high + 1
	if w.high < w.first {
		w.high = 0
	}
	return w, nil
}

func (w *walk) head() *Snapshot { return w.found[len(w.found)-1] }

// take removes and returns the newest job that was found.
func (w *walk) take() *Snapshot {
	s := w.head()
	w.found, w.next = w.found[:len(w.found)-1], s.SpecSeq
	return s
}

// find reads until the walk has found a job that the options select, or has come to its end. It returns true if the list has
// read enough before that.
func (w *walk) find(ctx context.Context, l *listing) (enough bool, err error) {
	for {
		for len(w.found) > 0 {
			if len(l.opts.States) == 0 || slices.Contains(l.opts.States, w.head().Job.State) {
				return false, nil
			}
			w.take()
		}
		switch {
		case len(w.specs) > 0:
			part := w.specs[max(len(w.specs)-100, 0):]
			if w.found, err = w.store.addStates(ctx, w.stream, part); err != nil {
				return false, err
			}
			w.specs = w.specs[:len(w.specs)-len(w.found)]
		case w.open != nil:
			l.spent += w.open.cost
			w.next, w.open = w.open.low, nil
			if w.high > 0 && l.spent > listCost {
				return true, nil
			}
		case w.high == 0:
			return false, nil
		default:
			if err := w.read(ctx); err != nil {
				return false, err
			}
		}
	}
}

// read reads the next window.
func (w *walk) read(ctx context.Context) error {
	read, err := w.store.window(ctx, w.stream, w.subject, w.first, w.high, w.width)
	if err != nil {
		return err
	}
	w.open, w.specs = &read, read.specs
	w.width = w.high - read.low + 1
	if read.cost < probeCost {
		w.width *= 4
	}
	w.high = read.low - 1
	if read.low <= w.first {
		w.high = 0
	}
	return nil
}

// window is a part of the log that begins at sequence low.
type window struct {
	low   uint64
	specs []*Snapshot // without params
	cost  int
}

// errNarrower is returned by a read to retry with a narrower window.
var errNarrower = errors.New("joblog: the window is too large")

// window reads the specs of a stream on the matching subjects, with sequences up to high, in a window of at most width.
func (q *Store) window(ctx context.Context, stream *keptStream, subject string, first, high, width uint64) (window, error) {
	for {
		w := window{low: first}
		if high-first >= width {
			w.low = high - width + 1
		}
		width = high - w.low + 1
		err := q.scan(ctx, stream, subject, w.low, func(m *storedMsg) error {
			if m.Seq > high {
				return errStop
			}
			w.cost += len(m.Data) + specCost
			perSeq := float64(w.cost) / float64(m.Seq-w.low+1)
			if w.cost > probeCost && perSeq*float64(width) > windowCost && width > minWindow {
				width = max(min(uint64(windowCost/perSeq), width/2), minWindow)
				return errNarrower
			}
			s := new(Snapshot)
			if err := s.addShown(m); err != nil {
				return err
			}
			if s.Spec == nil {
				q.skip(m, s.unread[0].unusable)
				return nil
			}
			s.storedAt = m.storedAt()
			w.specs = append(w.specs, s)
			return nil
		})
		if errors.Is(err, errNarrower) {
			continue
		}
		if err != nil {
			return window{}, fmt.Errorf("joblog: list: %w", err)
		}
		return w, nil
	}
}

// addStates reads the states of up to 1,024 specs of a stream and merges them. If the states are too large together, it reads those
// of the last specs only, and returns those specs.
func (q *Store) addStates(ctx context.Context, stream *keptStream, part []*Snapshot) ([]*Snapshot, error) {
	for {
		subjects := make([]string, len(part))
		bySubject := make(map[string]*Snapshot, len(part))
		for i, s := range part {
			subjects[i] = q.ns.StateSubject(s.Spec.User, s.Spec.ID)
			bySubject[subjects[i]] = s
		}
		size := 0
		err := q.lastOf(ctx, stream, subjects, func(m *storedMsg) error {
			if size += len(m.Data); size > statesBytes && len(part) > 1 {
				return errNarrower
			}
			return bySubject[m.Subject].addShown(m)
		})
		if errors.Is(err, errNarrower) {
			for _, s := range part {
				s.Job, s.StateSeq, s.unread = jobs.Job{}, 0, nil
			}
			part = part[len(part)-max(len(part)/4, 1):]
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("joblog: list: %w", err)
		}
		for _, s := range part {
			if err := q.readOlder(ctx, s); err != nil {
				return nil, fmt.Errorf("joblog: list: %w", err)
			}
			s.merge()
		}
		return part, nil
	}
}
