package joblog

import (
	"context"
	"errors"
	"fmt"
	"slices"

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
// next page, if its jobs take more than 1 MiB, or if more than 64 MiB of the log were read for it.
//
// List walks the specs backwards in windows that grow, so a page costs a few reads wherever the user's jobs are in the
// stream. Where specs are large the windows are narrow.
func (q *Store) List(ctx context.Context, user string, opts jobs.ListOptions) (jobs.Page, error) {
	if opts.Limit == 0 {
		opts.Limit = defaultLimit
	}
	first, last, err := q.Bounds(ctx)
	if err != nil {
		return jobs.Page{}, err
	}
	if opts.After > 0 {
		last = min(last, opts.After-1)
	}
	subject := q.ns.SpecSubject(user, "*", "*")
	if opts.Everyone {
		subject = q.ns.SpecSubjects("*", "*")
	}
	list := listing{opts: opts}
	spent := 0
	for high, width := last, uint64(4096); high >= first && high > 0; {
		w, err := q.window(ctx, subject, first, high, width)
		if err != nil {
			return jobs.Page{}, err
		}
		for specs := w.specs; len(specs) > 0; {
			part := specs[max(len(specs)-100, 0):]
			if part, err = q.addStates(ctx, part); err != nil {
				return jobs.Page{}, err
			}
			if list.add(part) {
				return list.page, nil
			}
			specs = specs[:len(specs)-len(part)]
		}
		if w.low <= first {
			break
		}
		spent += w.cost
		if spent > listCost {
			list.page.Next = w.low
			return list.page, nil
		}
		width = high - w.low + 1
		if w.cost < probeCost {
			width *= 4
		}
		high = w.low - 1
	}
	list.page.Next = 0
	return list.page, nil
}

// listing builds a page.
type listing struct {
	opts jobs.ListOptions
	page jobs.Page
	size int // bytes of its jobs
}

// add adds jobs to the page, given oldest first, and reports whether the page is full and more jobs follow.
func (l *listing) add(part []*Snapshot) (full bool) {
	for _, s := range slices.Backward(part) {
		if len(l.opts.States) > 0 && !slices.Contains(l.opts.States, s.Job.State) {
			continue
		}
		if len(l.page.Jobs) == l.opts.Limit || l.size > pageJobBytes {
			return true
		}
		l.size += max(s.specSize, s.stateSize) // the job contains about the larger of both
		l.page.Jobs, l.page.Next = append(l.page.Jobs, s.Job), s.SpecSeq
	}
	return false
}

// window is a part of the log that begins at sequence low.
type window struct {
	low   uint64
	specs []*Snapshot // without params
	cost  int
}

// errNarrower is returned by a read to retry with a narrower window.
var errNarrower = errors.New("joblog: the window is too large")

// window reads the specs on the matching subjects, with sequences up to high, in a window of at most width.
func (q *Store) window(ctx context.Context, subject string, first, high, width uint64) (window, error) {
	for {
		w := window{low: first}
		if high-first >= width {
			w.low = high - width + 1
		}
		width = high - w.low + 1
		err := q.scan(ctx, subject, w.low, func(m *storedMsg) error {
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

// addStates reads the states of up to 1,024 specs and merges them. If the states are too large together, it reads those
// of the last specs only, and returns those specs.
func (q *Store) addStates(ctx context.Context, part []*Snapshot) ([]*Snapshot, error) {
	for {
		subjects := make([]string, len(part))
		bySubject := make(map[string]*Snapshot, len(part))
		for i, s := range part {
			subjects[i] = q.ns.StateSubject(s.Spec.User, s.Spec.ID)
			bySubject[subjects[i]] = s
		}
		size := 0
		err := q.lastOf(ctx, subjects, func(m *storedMsg) error {
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
