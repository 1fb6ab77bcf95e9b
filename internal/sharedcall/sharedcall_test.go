package sharedcall_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hark-jobs/hark/internal/sharedcall"
)

// Callers that come during a call share the next one, and no result is from before its caller.
func TestDo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		var calls atomic.Int32
		g := sharedcall.New(time.Minute, func(context.Context, string) (time.Duration, error) {
			began := time.Since(begin)
			calls.Add(1)
			time.Sleep(time.Second)
			return began, nil
		})
		var callers sync.WaitGroup
		for i := range 20 {
			callers.Go(func() {
				time.Sleep(time.Duration(i) * 100 * time.Millisecond)
				called := time.Since(begin)
				began, err := g.Do(t.Context(), "a")
				if err != nil || began < called || time.Since(begin) > called+2*time.Second {
					t.Errorf("called at %v: got a call of %v at %v (%v)", called, began, time.Since(begin), err)
				}
			})
		}
		callers.Wait()
		if n := calls.Load(); n != 3 { // at 0 s, 1 s and 2 s
			t.Errorf("%d calls, want 3", n)
		}
	})
}

// Keys wait for no other key, and an error is that of the call.
func TestKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		failed := errors.New("failed")
		g := sharedcall.New(time.Minute, func(ctx context.Context, key string) (string, error) {
			if key == "slow" {
				<-ctx.Done()
				return "", ctx.Err()
			}
			return key, failed
		})
		var slow sync.WaitGroup
		slow.Go(func() {
			if _, err := g.Do(t.Context(), "slow"); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("the slow call returned %v", err)
			}
		})
		synctest.Wait()
		if key, err := g.Do(t.Context(), "fast"); key != "fast" || !errors.Is(err, failed) {
			t.Errorf("got %s, %v", key, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := g.Do(ctx, "slow"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a caller that no longer waits got %v", err)
		}
		slow.Wait()
		g.Close()
		if _, err := g.Do(t.Context(), "fast"); !errors.Is(err, sharedcall.ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	})
}

// Pause collects the callers of the time after a call.
func TestPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		g := sharedcall.New(time.Minute, func(context.Context, struct{}) (int, error) { calls++; time.Sleep(time.Second); return calls, nil })
		g.Pause = time.Second
		var callers sync.WaitGroup
		for i := range 3 {
			callers.Go(func() {
				time.Sleep(time.Duration(i) * 700 * time.Millisecond)
				if n, err := g.Do(t.Context(), struct{}{}); n != min(i+1, 2) || err != nil {
					t.Errorf("caller %d got call %d, %v", i, n, err)
				}
			})
		}
		callers.Wait()
		g.Close()
	})
}
