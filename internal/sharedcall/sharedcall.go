// Package sharedcall lets concurrent callers share the calls of a function whose result is about a moment. A caller never gets the
// result of a call that began before its own: callers that come while a call is under way share the next one. (Package
// singleflight lets them share the one that is under way.) So there is one call at a time for each key, however many want one.
package sharedcall

import (
	"context"
	"errors"
	"sync"
	"time"
)

// Group is the shared calls of one function. Its methods are safe for concurrent use.
type Group[K comparable, V any] struct {
	// Pause is the pause between two calls for the same key, which collects callers. Defaults to none.
	Pause time.Duration

	call    func(context.Context, K) (V, error)
	timeout time.Duration

	mu      sync.Mutex
	next    map[K]*result[V] // of the calls that have not begun; nil for a key whose call is under way and wanted by nobody
	closed  bool
	running sync.WaitGroup
}

// result is that of one call. The other fields are set when done is closed.
type result[V any] struct {
	done  chan struct{}
	value V
	err   error
}

// ErrClosed is returned by [Group.Do] once the group is closed.
var ErrClosed = errors.New("sharedcall: closed")

// New returns a group that calls a function with a context that ends after timeout.
func New[K comparable, V any](timeout time.Duration, call func(context.Context, K) (V, error)) *Group[K, V] {
	return &Group[K, V]{call: call, timeout: timeout, next: make(map[K]*result[V])}
}

// Do returns the result of a call that begins after Do does. It blocks for the time of one or two calls, or until ctx ends, and
// then returns its error. The value is shared.
func (g *Group[K, V]) Do(ctx context.Context, key K) (V, error) {
	r, err := g.join(key)
	if err != nil {
		return *new(V), err
	}
	select {
	case <-r.done:
		return r.value, r.err
	case <-ctx.Done():
		return *new(V), ctx.Err()
	}
}

// join returns the result of the next call, which it starts if none is under way.
func (g *Group[K, V]) join(key K) (*result[V], error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return nil, ErrClosed
	}
	r, underWay := g.next[key]
	if r == nil {
		r = &result[V]{done: make(chan struct{})}
		g.next[key] = r
	}
	if !underWay {
		g.running.Go(func() { g.run(key) })
	}
	return r, nil
}

// run makes calls for a key until nobody wants one.
func (g *Group[K, V]) run(key K) {
	for first := true; ; first = false {
		if !first && g.Pause > 0 {
			time.Sleep(g.Pause)
		}
		r := g.begin(key)
		if r == nil {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), g.timeout)
		r.value, r.err = g.call(ctx, key)
		cancel()
		close(r.done)
	}
}

// begin returns the result that the next caller may not share any more, or nil if nobody wants one.
func (g *Group[K, V]) begin(key K) *result[V] {
	g.mu.Lock()
	defer g.mu.Unlock()
	r := g.next[key]
	if r == nil {
		delete(g.next, key)
	} else {
		g.next[key] = nil
	}
	return r
}

// Close makes Do fail, and waits for the calls that are under way.
func (g *Group[K, V]) Close() {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	g.running.Wait()
}
