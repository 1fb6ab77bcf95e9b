package worker

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/hark-jobs/hark/jobs"
	"github.com/nats-io/nats.go"
)

// A pull asks for as many jobs as there are free slots and no more: a job that waits in a worker's memory
// waits while its lease runs out, and while other workers are idle.
const (
	pullExpires   = 30 * time.Second
	pullHeartbeat = 2 * time.Second
)

// puller takes the jobs of one kind from their durable consumer. It speaks the pull protocol itself:
// nats.go's Fetch makes a subscription and a goroutine for every pull, and drops what arrives while it is
// being stopped, which would keep those jobs waiting for a whole lease.
type puller struct {
	worker  *Worker
	handler *Handler
	running *sync.WaitGroup
}

// run pulls until ctx ends, and starts serve on a goroutine for each job, at most one for each slot.
func (p *puller) run(ctx context.Context, serve func(*nats.Msg)) {
	log := p.worker.log.With("kind", p.handler.kind.Name)
	for pause := 100 * time.Millisecond; ctx.Err() == nil; pause = min(2*pause, 5*time.Second) {
		subject, err := p.open(ctx)
		if err == nil {
			pause = 100 * time.Millisecond
			err = p.pull(ctx, subject, serve)
		}
		if ctx.Err() != nil {
			return
		}
		log.Warn("jobs cannot be taken; trying again", "err", err, "in", pause)
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// open makes the kind and its consumer known, and returns where to ask for jobs.
func (p *puller) open(ctx context.Context) (subject string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	kind := p.handler.kind
	name, err := p.worker.queue.OpenWorkerConsumer(ctx, kind.Name, p.worker.lease)
	if err != nil {
		return "", err
	}
	if err := p.worker.queue.PublishKind(ctx, kind); err != nil {
		return "", err
	}
	return fmt.Sprintf("$JS.API.CONSUMER.MSG.NEXT.%s.%s", jobs.StreamName, name), nil
}

// pull asks for jobs until ctx ends, when it returns nil after handing back what it had not started, or
// until the consumer cannot be asked any more.
func (p *puller) pull(ctx context.Context, subject string, serve func(*nats.Msg)) error {
	nc, slots := p.worker.queue.Conn(), p.handler.slots
	msgs := make(chan *nats.Msg, 2*slots+16)
	inbox := nc.NewInbox()
	sub, err := nc.ChanSubscribe(inbox, msgs)
	if err != nil {
		return err
	}
	defer handBack(sub, msgs)

	freed := make(chan struct{}, slots)
	free, asked := slots, 0 // slots with nothing to do, and those of them that a pull is out for
	start := func(m *nats.Msg) {
		free--
		p.running.Go(func() {
			serve(m)
			freed <- struct{}{}
		})
	}
	silence := time.NewTimer(0)
	defer silence.Stop()
	for {
		if asked == 0 && free > 0 {
			req, err := json.Marshal(map[string]any{"batch": free, "expires": pullExpires, "idle_heartbeat": pullHeartbeat})
			if err != nil {
				return err
			}
			if err := nc.PublishRequest(subject, inbox, req); err != nil {
				return err
			}
			asked = free
			silence.Reset(2*pullHeartbeat + time.Second)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-freed:
			free++
		case <-silence.C: // the request is lost; ask again
			asked = 0
		case m := <-msgs:
			switch status := m.Header.Get("Status"); {
			case m.Reply == "" || status != "":
				silence.Reset(2*pullHeartbeat + time.Second)
				if status == "100" {
					continue
				}
				if status != "408" && status != "404" {
					return fmt.Errorf("worker: pull: %s %s", status, m.Header.Get("Description"))
				}
				asked = 0
			case free == 0: // an answer to a request that was taken for lost
				m.Respond([]byte("-NAK"))
			default:
				asked = max(asked-1, 0)
				start(m)
			}
		}
	}
}

// handBack ends the subscription and gives back the jobs that had arrived and were not started.
func handBack(sub *nats.Subscription, msgs <-chan *nats.Msg) {
	sub.Unsubscribe()
	for {
		select {
		case m := <-msgs:
			if m.Reply != "" && m.Header.Get("Status") == "" {
				m.Respond([]byte("-NAK"))
			}
		default:
			return
		}
	}
}
