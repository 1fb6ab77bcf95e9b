package sse

import (
	"crypto/rand"
	"encoding/json"
	"log/slog"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hark-jobs/hark/internal/logtest"
)

// However many hubs are lost at the same time, there is one missed event, and what is known about hubs has a limit.
func TestManyHubsAreLost(t *testing.T) {
	var out logtest.Buffer
	h := &Hub{log: slog.New(slog.NewTextHandler(&out, nil)), beats: beats{number: 100, others: make(map[string]*otherHub), departed: make(map[string]time.Time)}}
	now := time.Now()
	beatOf := func(name string, number uint64) {
		data, err := json.Marshal(beat{Hub: name, Number: number})
		if err != nil {
			t.Fatal(err)
		}
		h.onBeat(&nats.Msg{Data: data}, now)
	}
	for range 10 * maxHubs {
		beatOf(rand.Text(), 50) // behind a route that was lost
	}
	if n := len(h.beats.others); n > maxHubs {
		t.Errorf("%d hubs are known, want at most %d", n, maxHubs)
	}
	warnings := func() int { return out.Count("level=WARN") }
	h.checkBeats(now)
	if n := warnings(); n != 1 {
		t.Errorf("%d times events were missed after lost beats, want once", n)
	}
	h.checkBeats(now.Add(2 * beatTimeout))
	if n := warnings(); n != 2 {
		t.Errorf("%d times events were missed after the hubs became silent, want once more", n)
	}
	h.checkBeats(now.Add(3 * beatTimeout))
	if n := warnings(); n != 2 {
		t.Errorf("%d times events were missed without a reason", n-2)
	}
	h.checkBeats(now.Add(2 * forgetHub))
	if n := len(h.beats.others); n != 0 {
		t.Errorf("%d hubs are known, want none", n)
	}
}
