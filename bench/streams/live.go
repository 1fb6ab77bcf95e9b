package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"
)

// unread is the number of live events that may be on their way at a time. hark would otherwise skip events for readers that
// are too slow, while the baseline makes the publisher wait for them.
const unread = 64

// live publishes live events at full speed, and measures the cost of each until it has arrived at all listeners: in hark, and
// in the baseline, which stores nothing. Notifications are measured in the same run.
func live(ctx context.Context, set *settings, r *report) error {
	if err := liveMemory(ctx, set, r); err != nil {
		return err
	}
	notification, err := liveNotifications(ctx, set, r)
	if err != nil {
		return err
	}
	for _, c := range []struct {
		name              string
		topics, listeners int
	}{
		{"1 topic with 1 listener", 1, 1}, {"1 topic with 100", 1, 100}, {fmt.Sprint("1 topic with ", set.mid), 1, set.mid},
		{fmt.Sprint(set.mid, " topics with 1 each"), set.mid, 1},
	} {
		streams := c.topics * c.listeners
		topic := func(i int) string { return fmt.Sprint("topic.", i/c.listeners) }
		cost := func(prefix string, s *server, err error) (float64, error) {
			if err != nil {
				return 0, err
			}
			s.topic = topic
			st, err := newStage(ctx, s, streams, streams)
			if err != nil {
				return 0, err
			}
			defer st.close()
			per, err := st.publishEvents(ctx, r, prefix+c.name+": ", c.topics, c.listeners)
			return per, st.blame(err)
		}
		s, err := startCommand(ctx, set, streams, "serve", "--topic", ">")
		hark, err := cost("", s, err)
		if err != nil {
			return err
		}
		s, err = startPlain(ctx, set, baselineArg)
		plain, err := cost("baseline: ", s, err)
		if err != nil {
			return err
		}
		r.add(c.name+": CPU per event, ratio to the baseline", hark/plain, ratio, atMost(1.3))
		if c.listeners == 1 {
			r.add(c.name+": CPU per event, ratio to a notification", hark/notification, ratio, noTarget)
		}
	}
	return nil
}

// liveMemory measures the memory of idle streams without a topic, with one for all, and with one each.
func liveMemory(ctx context.Context, set *settings, r *report) error {
	bytes := make(map[string]float64)
	for _, c := range []struct {
		name  string
		topic func(int) string
	}{
		{"no topic", nil}, {"one topic for all", func(int) string { return "topic.0" }}, {"a topic each", func(i int) string { return fmt.Sprint("topic.", i) }},
	} {
		s, err := startCommand(ctx, set, set.n, "serve", "--topic", ">")
		if err != nil {
			return err
		}
		s.topic = c.topic
		each, err := idle(ctx, set, r, s, c.name+": ", 10*time.Second)
		s.close()
		if err != nil {
			return s.blame(err)
		}
		bytes[c.name] = each.bytes
		r.add(c.name+": memory per idle stream", each.bytes, "B", noTarget)
	}
	r.add("memory of a listener", bytes["one topic for all"]-bytes["no topic"], "B", noTarget)
	r.add("memory of a topic and its listener", bytes["a topic each"]-bytes["no topic"], "B", noTarget)
	return nil
}

func liveNotifications(ctx context.Context, set *settings, r *report) (float64, error) {
	st, err := harkStage(ctx, set, set.mid)
	if err != nil {
		return 0, err
	}
	defer st.close()
	per, err := st.flood(ctx, r, "beside: ", noTarget, 1)
	return per, st.blame(err)
}

// publishEvents publishes for ten seconds, and returns the server's CPU per event, in microseconds.
func (st *stage) publishEvents(ctx context.Context, r *report, prefix string, topics, listeners int) (float64, error) {
	before, err := st.cpu()
	if err != nil {
		return 0, err
	}
	var published atomic.Int64
	arrived := func() int64 { return st.live.Load() / int64(listeners) }
	began := time.Now()
	err = st.each(publishers, func(_ int, p *poster) error {
		for time.Since(began) < 10*time.Second && ctx.Err() == nil {
			for published.Load()-arrived() > unread && ctx.Err() == nil {
				time.Sleep(50 * time.Microsecond)
			}
			published.Add(1)
			if err := p.publish(fmt.Sprint("topic.", rand.IntN(topics))); err != nil {
				return err
			}
		}
		return ctx.Err()
	})
	if err != nil {
		return 0, err
	}
	took := time.Since(began)
	err = until(ctx, time.Minute, "all events to arrive", func() (bool, error) { return arrived() >= published.Load(), st.check() })
	if err != nil {
		return 0, fmt.Errorf("%w; %d published, %d arrived, %d missed", err, published.Load(), arrived(), st.missed.Load())
	}
	after, err := st.cpu()
	if err != nil {
		return 0, err
	}
	n := float64(published.Load())
	per := micros(after.Sub(before).Total()) / n
	r.add(prefix+"events in a second", n/took.Seconds(), "/s", noTarget)
	r.add(prefix+"CPU per event", per, "µs", noTarget)
	r.add(prefix+"CPU per listener", per/float64(listeners), "µs", noTarget)
	return per, nil
}
