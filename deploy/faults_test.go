package deploy_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hark-jobs/hark/client"
)

// cutOff is how long a container stays without a network, or stands still.
const cutOff = 20 * time.Second

// disconnect takes a service off all its networks for a while, as a broken switch does: its connections stay open, and no packet
// arrives. Callers of hark must be accepted meanwhile.
func (p *project) disconnect(service string, l *ledger) {
	p.t.Helper()
	id := p.id(service)
	var networks map[string]struct{ Aliases []string }
	if err := json.Unmarshal([]byte(p.run(nil, "docker", "inspect", "--format", "{{json .NetworkSettings.Networks}}", id)), &networks); err != nil {
		p.t.Fatal(err)
	}
	for name := range networks {
		p.run(nil, "docker", "network", "disconnect", name, id)
	}
	p.lasts(l)
	for name, network := range networks {
		args := []string{"docker", "network", "connect"}
		for _, alias := range network.Aliases {
			args = append(args, "--alias", alias)
		}
		p.run(nil, append(args, name, id)...)
	}
	p.healthy()
	p.goesOn(l)
}

// pause makes the processes of a service stand still for a while.
func (p *project) pause(service string, l *ledger) {
	p.t.Helper()
	id := p.id(service)
	p.run(nil, "docker", "pause", id)
	p.lasts(l)
	p.run(nil, "docker", "unpause", id)
	p.healthy()
	p.goesOn(l)
}

// lasts returns when a fault has lasted for cutOff, and hark has accepted something meanwhile.
func (p *project) lasts(l *ledger) {
	p.t.Helper()
	begin := time.Now()
	p.goesOn(l)
	time.Sleep(time.Until(begin.Add(cutOff)))
}

// reader counts what a stream of the user of a ledger has brought.
type reader struct {
	mu     sync.Mutex
	seen   map[string]int // by the title of a notification, or the id of a job and the type of its end
	resets int
}

// read reads a stream of the ledger's user until the test ends. The client resumes it after each fault.
func (l *ledger) read(t *testing.T) *reader {
	r := &reader{seen: make(map[string]int)}
	ctx, cancel := context.WithCancel(t.Context())
	live, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		begun := sync.OnceFunc(func() { close(live) })
		for e, err := range l.c.Stream(ctx, client.StreamOptions{}) {
			if err != nil && ctx.Err() == nil {
				t.Errorf("the stream has ended: %v", err)
			}
			r.add(&e)
			begun()
		}
	}()
	t.Cleanup(func() { cancel(); <-ended })
	select {
	case <-live:
	case <-time.After(time.Minute):
		t.Fatal("the stream does not begin")
	}
	return r
}

func (r *reader) add(e *client.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch n, err := e.Notification(); {
	case e.Type == client.EventReset:
		r.resets++
	case e.Type != client.EventNotification || err != nil:
	case n.Type == "ledger":
		r.seen[n.Title]++
	case strings.HasPrefix(n.Type, "job."):
		r.seen[n.JobID+" "+n.Type]++
	}
}

// complete waits until the stream has brought everything that the ledger has accepted, once each.
func (r *reader) complete(p *project, l *ledger) {
	p.t.Helper()
	var wrong []string
	p.until("the stream is complete", 2*time.Minute, func() bool { wrong = r.wrong(l); return len(wrong) == 0 },
		func() string { return fmt.Sprintf("%d faults, as these: %q", len(wrong), wrong[:min(len(wrong), 10)]) })
}

func (r *reader) wrong(l *ledger) (faults []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	want := slices.Collect(maps.Keys(l.notifications))
	for _, id := range l.jobs {
		want = append(want, id+" job.succeeded")
	}
	for _, entry := range want {
		if n := r.seen[entry]; n != 1 {
			faults = append(faults, fmt.Sprintf("%s came %d times", entry, n))
		}
	}
	if r.resets > 0 {
		faults = append(faults, fmt.Sprintf("%d resets", r.resets))
	}
	return faults
}
