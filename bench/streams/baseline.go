package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"
)

// baselineArg makes this program the baseline.
const baselineArg = "baseline-server"

// baseline is a minimal server that accepts a notification and writes it to its user's stream: net/http and a channel. It stores nothing, has no
// login and one stream per user. Costs of hark are given as a ratio to it, since a ratio depends less on the machine than a figure.
type baseline struct {
	mu    sync.RWMutex
	users map[string]*baselineUser

	topics map[string][]chan []byte // the listeners of each
}

type baselineUser struct {
	mu     sync.Mutex // makes the order of the ids that of the frames
	frames chan []byte
	last   int64
}

func serveBaseline(addr string) error {
	b := &baseline{users: make(map[string]*baselineUser), topics: make(map[string][]chan []byte)}
	return servePlain(addr, b.post, b.stream, b.publish)
}

// servePlain serves the common parts of the servers that hark is compared with.
func servePlain(addr string, post, stream, publish http.HandlerFunc) error {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/events", publish)
	mux.HandleFunc("POST /v1/notifications", post)
	mux.HandleFunc("GET /v1/stream", stream)
	mux.HandleFunc("GET /readyz", func(http.ResponseWriter, *http.Request) {})
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	return (&http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}).Serve(l)
}

func (b *baseline) user(name string) *baselineUser {
	b.mu.RLock()
	u := b.users[name]
	b.mu.RUnlock()
	if u != nil {
		return u
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	u = b.users[name]
	if u == nil {
		u = &baselineUser{frames: make(chan []byte, 16)}
		b.users[name] = u
	}
	return u
}

type baselineNote struct {
	ID    string          `json:"id"`
	User  string          `json:"user,omitempty"`
	Type  string          `json:"type"`
	Title string          `json:"title"`
	Body  string          `json:"body,omitempty"`
	Data  json.RawMessage `json:"data,omitempty"`
}

func (b *baseline) post(w http.ResponseWriter, r *http.Request) {
	var n baselineNote
	if err := json.NewDecoder(r.Body).Decode(&n); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	u := b.user(n.User)
	u.mu.Lock()
	u.last++
	n.ID = fmt.Sprintf("1-%d", u.last)
	data, err := json.Marshal(&n)
	if err == nil {
		u.frames <- fmt.Appendf(nil, "event: notification\nid: %s\ndata: %s\n\n", n.ID, data)
	}
	u.mu.Unlock()
	answer(w, data, err)
}

// publish writes a live event to the streams that listen to its topic.
func (b *baseline) publish(w http.ResponseWriter, r *http.Request) {
	var e struct {
		Topic string          `json:"topic"`
		Type  string          `json:"type"`
		Data  json.RawMessage `json:"data"`
	}
	if err := json.NewDecoder(r.Body).Decode(&e); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	data, err := json.Marshal(&e)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	frame := fmt.Appendf(nil, "event: live\ndata: %s\n\n", data)
	b.mu.RLock()
	defer b.mu.RUnlock()
	for _, frames := range b.topics[e.Topic] {
		frames <- frame
	}
	w.WriteHeader(http.StatusNoContent)
}

// answer responds with the created notification, or with an error.
func answer(w http.ResponseWriter, data []byte, err error) {
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusCreated)
	_, _ = w.Write(data) // an error means that the client has disconnected
}

func (b *baseline) stream(w http.ResponseWriter, r *http.Request) {
	u := b.user(r.Header.Get("User"))
	if topic := r.URL.Query().Get("topic"); topic != "" {
		b.mu.Lock()
		b.topics[topic] = append(b.topics[topic], u.frames)
		b.mu.Unlock()
	}
	control := http.NewResponseController(w)
	w.Header().Set("Content-Type", "text/event-stream")
	frame := []byte("event: hello\nid: 1-0\ndata: {}\n\n")
	for {
		if _, err := w.Write(frame); err != nil {
			return
		}
		if err := control.Flush(); err != nil {
			return
		}
		select {
		case frame = <-u.frames:
		case <-r.Context().Done():
			return
		}
	}
}
