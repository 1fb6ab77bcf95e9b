// Package polltest waits in tests for what another goroutine or process does.
package polltest

import (
	"testing"
	"time"
)

const (
	// limit is much longer than anything takes, since machines that run tests can be slow.
	limit = 3 * time.Minute
	pause = 5 * time.Millisecond
)

// Until calls done again and again until it returns true. It fails the test after three minutes; what names the condition. It
// must be called by the goroutine of the test.
func Until(t testing.TB, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !done(); time.Sleep(pause) {
		if time.Now().After(end) {
			t.Fatalf("in vain for %v: %s", limit, what)
		}
	}
}

// Nil is Until for a check that returns what is still missing. The failure has its last error.
func Nil(t testing.TB, what string, check func() error) {
	t.Helper()
	for end := time.Now().Add(limit); ; time.Sleep(pause) {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("in vain for %v: %s: %v", limit, what, err)
		}
	}
}
