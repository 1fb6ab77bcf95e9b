package jobs

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// ListOptions selects from a user's jobs.
type ListOptions struct {
	Everyone bool    // from all users' jobs, whichever user is given
	States   []State // only these; none means all
	Limit    int     // at most so many
	After    uint64  // behind this cursor; 0 means from the newest
}

// Page is a part of a list.
type Page struct {
	Jobs []Job
	Next uint64 // the cursor of the next page; 0 when this is the last
}

// What a list may take, however large params and results are, and however many jobs there are.
const (
	// windowCost is what a window of the log may cost to read, in bytes, with orderCost for each order that is kept.
	windowCost = 8 << 20
	orderCost  = 1 << 10
	// probeCost is what is read of a window before it is found to be too large.
	probeCost = 1 << 20
	// A window is never narrower than minWindow sequences.
	minWindow = 64
	// statesBytes is what the states may have that are read at a time, of more than one job.
	statesBytes = 2 << 20
	// pageJobBytes is what the jobs of a page may have, without the last.
	pageJobBytes = 1 << 20
	// listCost is how much of the log is read for one page.
	listCost = 64 << 20
)

// List returns a user's jobs, newest first. There are fewer than the limit, and perhaps none, with a cursor to go on, if
// they take more than 1 MiB, or if more than 64 MiB of the log have been looked through for them.
//
// It walks the job messages backwards in windows that grow, so a page costs a few reads wherever the
// user's jobs lie in the stream and however many there are. Where the orders are large the windows are narrow.
func (q *Queue) List(ctx context.Context, user string, opts ListOptions) (Page, error) {
	first, last, err := q.Bounds(ctx)
	if err != nil {
		return Page{}, err
	}
	if opts.After > 0 {
		last = min(last, opts.After-1)
	}
	subject := orderSubject(user, "*", "*")
	if opts.Everyone {
		subject = storeRoot + "*.job.*.*"
	}
	list := listing{opts: opts}
	spent := 0
	for high, width := last, uint64(4096); high >= first && high > 0; {
		w, err := q.window(ctx, subject, first, high, width)
		if err != nil {
			return Page{}, err
		}
		for orders := w.orders; len(orders) > 0; {
			part := orders[max(len(orders)-100, 0):]
			if part, err = q.addStates(ctx, part); err != nil {
				return Page{}, err
			}
			if list.add(part) {
				return list.page, nil
			}
			orders = orders[:len(orders)-len(part)]
		}
		if w.low <= first {
			break
		}
		if spent += w.cost; spent > listCost {
			list.page.Next = w.low
			return list.page, nil
		}
		if width = high - w.low + 1; w.cost < probeCost {
			width *= 4
		}
		high = w.low - 1
	}
	list.page.Next = 0
	return list.page, nil
}

// listing is a page that is being filled.
type listing struct {
	opts ListOptions
	page Page
	size int // bytes of its jobs
}

// add takes in what is next, the newest last, and reports whether the page is full, and more follows.
func (l *listing) add(part []*Snapshot) (full bool) {
	for _, s := range slices.Backward(part) {
		if len(l.opts.States) > 0 && !slices.Contains(l.opts.States, s.Job.State) {
			continue
		}
		if len(l.page.Jobs) == l.opts.Limit || l.size > pageJobBytes {
			return true
		}
		l.size += max(s.orderSize, s.stateSize) // which hold much the same
		l.page.Jobs, l.page.Next = append(l.page.Jobs, s.Job), s.OrderSeq
	}
	return false
}

// window is a part of the log, from sequence low on.
type window struct {
	low    uint64
	orders []*Snapshot // without params
	cost   int
}

// errNarrower says that a window is too large.
var errNarrower = errors.New("jobs: the window is too large")

// window reads the orders on the subjects that match, with sequences up to high, in a window of at most width.
func (q *Queue) window(ctx context.Context, subject string, first, high, width uint64) (window, error) {
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
			w.cost += len(m.Data) + orderCost
			perSeq := float64(w.cost) / float64(m.Seq-w.low+1)
			if w.cost > probeCost && perSeq*float64(width) > windowCost && width > minWindow {
				width = max(min(uint64(windowCost/perSeq), width/2), minWindow)
				return errNarrower
			}
			s := new(Snapshot)
			w.orders = append(w.orders, s)
			return s.addShown(m)
		})
		if errors.Is(err, errNarrower) {
			continue
		}
		if err != nil {
			return window{}, fmt.Errorf("jobs: list: %w", err)
		}
		return w, nil
	}
}

// addStates reads the states of up to 1,024 orders and folds them in. If the states are too large together it does so for
// the last of the orders, and returns those.
func (q *Queue) addStates(ctx context.Context, part []*Snapshot) ([]*Snapshot, error) {
	for {
		subjects := make([]string, len(part))
		bySubject := make(map[string]*Snapshot, len(part))
		for i, s := range part {
			subjects[i] = stateSubject(s.Order.User, s.Order.ID)
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
				s.Job, s.StateSeq = Job{}, 0
			}
			part = part[len(part)-max(len(part)/4, 1):]
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("jobs: list: %w", err)
		}
		for _, s := range part {
			s.fold()
		}
		return part, nil
	}
}
