package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// floorArg makes this program the floor.
const floorArg = "floor-server"

// floor is the minimum with the parts that hark is made of: net/http accepts a notification, an embedded server stores it, and the republished message is
// written to the user's connection, which is taken over. It has no login, no deduplication, no inbox and no resume.
type floor struct {
	js jetstream.JetStream

	mu    sync.RWMutex
	conns map[string]net.Conn // by the live subject
}

// serveFloor stores in dir.
func serveFloor(addr, dir string) error {
	debug.SetGCPercent(800) // with its small heap it would collect most of the time
	ns, err := natsserver.NewServer(&natsserver.Options{
		DontListen: true, JetStream: true, StoreDir: dir, NoSigs: true, NoSublistCache: true,
	})
	if err != nil {
		return err
	}
	ns.Start()
	if !ns.ReadyForConnections(10 * time.Second) {
		return errors.New("the NATS server did not start")
	}
	nc, err := nats.Connect("", nats.InProcessServer(ns))
	if err != nil {
		return err
	}
	f := &floor{conns: make(map[string]net.Conn)}
	if f.js, err = jetstream.New(nc); err != nil {
		return err
	}
	if _, err = f.js.CreateStream(context.Background(), jetstream.StreamConfig{
		Name: "FLOOR", Subjects: []string{"note.>"}, RePublish: &jetstream.RePublish{Source: "note.>", Destination: "live.>"},
	}); err != nil {
		return err
	}
	live := make(chan *nats.Msg, 1<<16)
	if _, err = nc.ChanSubscribe("live.>", live); err != nil {
		return err
	}
	go f.receive(live)
	return servePlain(addr, f.post, f.stream, http.NotFound) // it has no live events
}

// token makes a user one token of a subject. The benchmark's users have dots, and nothing else that NATS gives a meaning to.
func token(user string) string { return strings.ReplaceAll(user, ".", "=2E") }

func (f *floor) receive(live <-chan *nats.Msg) {
	for m := range live {
		f.mu.RLock()
		conn := f.conns[m.Subject]
		f.mu.RUnlock()
		if conn != nil {
			// The benchmark notices a disconnected reader.
			_, _ = conn.Write(fmt.Appendf(nil, "event: notification\nid: 1-%s\ndata: %s\n\n", m.Header.Get(jetstream.SequenceHeader), m.Data))
		}
	}
}

func (f *floor) post(w http.ResponseWriter, r *http.Request) {
	var n baselineNote
	if err := json.NewDecoder(r.Body).Decode(&n); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	data, err := json.Marshal(&n)
	if err == nil {
		n.ID, err = f.store(r.Context(), "note."+token(n.User), data)
	}
	if err == nil {
		data, err = json.Marshal(&n)
	}
	answer(w, data, err)
}

// store uses the cheapest publish of nats.go.
func (f *floor) store(ctx context.Context, subject string, data []byte) (id string, err error) {
	ack, err := f.js.PublishAsync(subject, data)
	if err != nil {
		return "", err
	}
	select {
	case stored := <-ack.Ok():
		return fmt.Sprintf("1-%d", stored.Sequence), nil
	case err := <-ack.Err():
		return "", err
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

func (f *floor) stream(w http.ResponseWriter, r *http.Request) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	const hello = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\nevent: hello\nid: 1-0\ndata: {}\n\n"
	f.mu.Lock() // nothing may be posted before the connection is registered
	defer f.mu.Unlock()
	if _, err := conn.Write([]byte(hello)); err != nil {
		conn.Close()
		return
	}
	f.conns["live."+token(r.Header.Get("User"))] = conn
}
