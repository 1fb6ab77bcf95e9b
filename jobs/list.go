package jobs

import (
	"context"
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

// List returns a user's jobs, newest first.
//
// It walks the job messages backwards in windows that grow, so a page costs a few reads wherever the
// user's jobs lie in the stream and however many there are.
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
	var page Page
	for high, width := last, uint64(4096); high >= first && high > 0; width *= 4 {
		low := first
		if high-first >= width {
			low = high - width + 1
		}
		orders, err := q.orders(ctx, subject, low, high)
		if err != nil {
			return Page{}, err
		}
		for slices.Reverse(orders); len(orders) > 0; {
			part := orders[:min(len(orders), 100)]
			orders = orders[len(part):]
			if err := q.addStates(ctx, part); err != nil {
				return Page{}, err
			}
			for _, s := range part {
				if len(opts.States) > 0 && !slices.Contains(opts.States, s.Job.State) {
					continue
				}
				if len(page.Jobs) == opts.Limit {
					return page, nil
				}
				page.Jobs, page.Next = append(page.Jobs, s.Job), s.OrderSeq
			}
		}
		if low <= first {
			break
		}
		high = low - 1
	}
	page.Next = 0
	return page, nil
}

// orders returns the orders on the subjects that match, with sequences from low to high.
func (q *Queue) orders(ctx context.Context, subject string, low, high uint64) ([]*Snapshot, error) {
	var found []*Snapshot
	err := q.scan(ctx, subject, low, func(m *storedMsg) error {
		if m.Seq > high {
			return errStop
		}
		s := new(Snapshot)
		found = append(found, s)
		return s.add(m)
	})
	if err != nil {
		return nil, fmt.Errorf("jobs: list: %w", err)
	}
	return found, nil
}

// addStates reads the states of up to 1,024 orders and folds them in.
func (q *Queue) addStates(ctx context.Context, part []*Snapshot) error {
	subjects := make([]string, len(part))
	bySubject := make(map[string]*Snapshot, len(part))
	for i, s := range part {
		subjects[i] = stateSubject(s.Order.User, s.Order.ID)
		bySubject[subjects[i]] = s
	}
	_, err := q.direct(ctx, directRequest{MultiLast: subjects}, func(m *storedMsg) error {
		return bySubject[m.Subject].add(m)
	})
	if err != nil {
		return fmt.Errorf("jobs: list: %w", err)
	}
	for _, s := range part {
		s.fold()
	}
	return nil
}
