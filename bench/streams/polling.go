package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	pollingIdle   = 60 * time.Second // more than two polls of each
	pollingLoad   = 20 * time.Second
	pollingPerSec = 500
)

// polling compares readers with streams and readers with long polling: the cost of an idle reader, and of each notification.
func polling(ctx context.Context, set *settings, r *report) error {
	for _, c := range []struct {
		name string
		open func(context.Context, *server, int) (readers, error)
	}{{"streams: ", openCrowd}, {"long polling: ", openPollers}} {
		s, err := startHark(ctx, set, set.mid)
		if err != nil {
			return err
		}
		err = pollingCost(ctx, s, set.mid, r, c.name, c.open)
		s.close()
		if err != nil {
			return s.blame(err)
		}
	}
	return nil
}

// readers are the readers of a server, one for each of its first users.
type readers interface {
	notifications() int64 // that have arrived
	check() error
	close()
}

func pollingCost(ctx context.Context, s *server, n int, r *report, prefix string, open func(context.Context, *server, int) (readers, error)) error {
	if err := warmUp(ctx, s); err != nil {
		return err
	}
	beforeHeap, err := s.memStats(ctx) // after a garbage collection
	if err != nil {
		return err
	}
	before, err := s.memory()
	if err != nil {
		return err
	}
	all, err := open(ctx, s, n)
	if err != nil {
		return err
	}
	defer all.close()
	if err := rest(ctx, 5*time.Second); err != nil {
		return err
	}
	begun, err := s.cpu()
	if err != nil {
		return err
	}
	if err := rest(ctx, pollingIdle); err != nil {
		return err
	}
	held, err := s.memory()
	if err != nil {
		return err
	}
	idle, err := s.cpu()
	if err != nil {
		return err
	}
	heldHeap, err := s.memStats(ctx)
	if err != nil {
		return err
	}
	collected, err := s.cpu()
	if err != nil {
		return err
	}
	st := &stage{server: s, ledger: newLedger()}
	if err := st.pacedLoad(ctx, n, pollingPerSec, pollingLoad); err != nil {
		return err
	}
	posted := int64(st.ledger.drawn.Load())
	err = until(ctx, time.Minute, "what was posted to arrive", func() (bool, error) { return all.notifications() >= posted, all.check() })
	if err != nil {
		return err
	}
	busy, err := s.cpu()
	if err != nil {
		return err
	}
	if got := all.notifications(); got != posted {
		return fmt.Errorf("%d notifications came, and %d were posted", got, posted)
	}
	r.add(prefix+"memory per idle reader", float64(held.RSS-before.RSS)/float64(n), "B", noTarget)
	r.add(prefix+"of it stacks", float64(heldHeap.stacks-beforeHeap.stacks)/float64(n), "B", noTarget)
	r.add(prefix+"of it what is live in the heap", float64(heldHeap.live-beforeHeap.live)/float64(n), "B", noTarget)
	r.add(prefix+"of it garbage that is not collected yet", float64(heldHeap.garbage-beforeHeap.garbage)/float64(n), "B", noTarget)
	r.add(prefix+"CPU per idle reader in a minute", micros(idle.Sub(begun).Total())/float64(n)*float64(time.Minute)/float64(pollingIdle), "µs", noTarget)
	r.add(prefix+fmt.Sprintf("CPU per notification, at %d a second", pollingPerSec), micros(busy.Sub(collected).Total())/float64(posted), "µs", noTarget)
	return all.check()
}

func openCrowd(ctx context.Context, s *server, n int) (readers, error) {
	c, err := newCrowd(s, n, n)
	if err != nil {
		return nil, err
	}
	if err := c.openAll(ctx, openWindow); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

func (c *crowd) notifications() int64 { return c.arrived.Load() }

// pollers are readers that poll, each with a connection of its own.
type pollers struct {
	client  *http.Client
	arrived atomic.Int64
	hellos  atomic.Int64
	failed  atomic.Pointer[error]
	stop    context.CancelFunc
	running sync.WaitGroup
}

func openPollers(ctx context.Context, s *server, n int) (readers, error) {
	p := &pollers{client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: n}}}
	ctx, p.stop = context.WithCancel(ctx)
	for i := range n {
		p.running.Go(func() {
			if err := p.run(ctx, s, i); ctx.Err() == nil {
				p.failed.Store(&err)
			}
		})
		if i%openWindow == 0 { // not all at the same time
			time.Sleep(10 * time.Millisecond)
		}
	}
	err := until(ctx, 2*time.Minute, "all to be answered", func() (bool, error) { return p.hellos.Load() == int64(n), p.check() })
	if err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

func (p *pollers) notifications() int64 { return p.arrived.Load() }

func (p *pollers) check() error {
	if err := p.failed.Load(); err != nil {
		return *err
	}
	return nil
}

func (p *pollers) close() {
	p.stop()
	p.running.Wait()
	p.client.CloseIdleConnections()
}

// run polls as one user until something fails, and checks the order of the events.
func (p *pollers) run(ctx context.Context, s *server, user int) error {
	var answer struct {
		Stream, ID string
		Events     []struct {
			Event string
			Data  json.RawMessage
		}
	}
	_, token, _ := strings.Cut(strings.TrimSpace(s.user(user)), ": ")
	for last := uint64(0); ; {
		query := url.Values{"stream": {answer.Stream}, "after": {answer.ID}}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.addr+"/v1/events?"+query.Encode(), nil)
		if err != nil {
			return err
		}
		req.Header.Set("Authorization", token)
		res, err := p.client.Do(req)
		if err != nil {
			return err
		}
		answer.Events = nil
		err = json.NewDecoder(res.Body).Decode(&answer)
		res.Body.Close()
		if err != nil || res.StatusCode != http.StatusOK {
			return fmt.Errorf("a poll of %s: %s: %w", userName(user), res.Status, err)
		}
		for _, e := range answer.Events {
			switch e.Event {
			case "hello":
				p.hellos.Add(1)
			case "notification":
				seq, err := seqOf(idOf(e.Data))
				if err != nil {
					return err
				}
				if seq <= last {
					return errors.New("notifications came in another order, or twice")
				}
				last = seq
				p.arrived.Add(1)
			}
		}
	}
}
