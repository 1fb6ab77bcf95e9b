package sse

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/hark-jobs/hark/internal/joblog"
)

// A hub goes to another server after a longer silence of the log than an election takes, and sooner if all other hubs are silent.
func TestOutOfReach(t *testing.T) {
	start := time.Now()
	heard, silent := &otherHub{}, &otherHub{silent: true}
	for _, test := range []struct {
		name   string
		others map[string]*otherHub
		after  time.Duration
		want   bool
	}{
		{"no other hub, during an election", nil, 9 * time.Second, false},
		{"no other hub", nil, 10 * time.Second, true},
		{"one of two is silent", map[string]*otherHub{"a": silent, "b": heard}, 9 * time.Second, false},
		{"one of two is silent for long", map[string]*otherHub{"a": silent, "b": heard}, 10 * time.Second, true},
		{"all are silent, a moment ago", map[string]*otherHub{"a": silent, "b": silent}, 2 * time.Second, false},
		{"all are silent", map[string]*otherHub{"a": silent, "b": silent}, 3 * time.Second, true},
	} {
		var c cutOff
		c.onRead(errors.New("no answer"), start)
		c.onRead(errors.New("no answer"), start.Add(test.after/2)) // the first failure counts
		if got := c.isOutOfReach(test.others, start.Add(test.after)); got != test.want {
			t.Errorf("%s: %v after %v", test.name, got, test.after)
		}
		c.onMove(start)
		if moves := c.moves; c.isOutOfReach(test.others, start.Add(19*time.Second)) || !c.isOutOfReach(test.others, start.Add(20*time.Second)) {
			t.Errorf("%s: after %d move, it is not left after twice the time", test.name, moves)
		}
		c.onRead(nil, start.Add(test.after))
		if c.moves > 0 || c.isOutOfReach(test.others, start.Add(time.Hour)) {
			t.Errorf("%s: out of reach after an answer", test.name)
		}
	}
}

// A leader that has no contact with the others leaves no doubt. If the next server is no better, it gets its time.
func TestCutOffLeader(t *testing.T) {
	start := time.Now()
	var c cutOff
	c.onRead(fmt.Errorf("the end of the log: %w", joblog.ErrCutOff), start)
	if !c.isOutOfReach(nil, start) {
		t.Error("a server that is certainly cut off is not left")
	}
	c.onMove(start)
	c.onRead(joblog.ErrCutOff, start)
	if c.isOutOfReach(nil, start.Add(19*time.Second)) {
		t.Error("the next server is left at once")
	}
}
