package cluster_test

import (
	"fmt"
	"testing"
	"time"
)

// churn has streams end and resume again and again, with nothing failing, and counts what they miss.
func churn(t *testing.T, p *parts, round, users, reconnects int) {
	l := newLedger(p, fmt.Sprintf("churn %d", round), users, pace{notification: time.Second / 2, broadcast: time.Second / 4})
	for _, r := range l.readers {
		r.churns.Store(true)
	}
	defer l.listen()()
	ph := &phase{name: l.name, begin: time.Now(), over: make(chan struct{})}
	end, ended := make(chan struct{}), make(chan struct{})
	go func() { defer close(ended); l.post(ph, end) }()
	for limit := time.Now().Add(5 * time.Minute); l.connects() < reconnects; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("only %d connections in %v", l.connects(), time.Since(ph.begin))
		}
	}
	close(end)
	<-ended
	for _, r := range l.readers {
		r.churns.Store(false)
	}
	ph.settle(l, 0)
	v := l.verdict([]*phase{ph})
	t.Logf("%d notifications in %d connections, %.0f s", l.notifications(), l.connects(), time.Since(ph.begin).Seconds())
	if v != (verdict{}) {
		t.Errorf("something that must never be, was:\n%v", v)
	}
}
