// Command step4 keeps all messages, and each stream reads them from its position. It is still wrong: see docs/from-scratch.md.
//
//	go run ./examples/from-scratch/step4
//	curl -N 'localhost:8080/events?user=ana'
//	curl localhost:8080/send -d to=ana -d text=hello
package main

import (
	"fmt"
	"log"
	"net/http"
	"strconv"
	"sync"
)

func main() {
	log.Fatal(http.ListenAndServe("localhost:8080", newServer()))
}

type message struct{ to, text string }

type server struct {
	http.Handler
	mu      sync.Mutex
	history []message              // the id of a message is its place, from 1
	tabs    map[chan struct{}]bool // the channel of a tab wakes it
}

func newServer() *server {
	mux := http.NewServeMux()
	s := &server{Handler: mux, tabs: map[chan struct{}]bool{}}
	mux.HandleFunc("GET /events", s.events)
	mux.HandleFunc("POST /send", s.send)
	return s
}

func (s *server) join() chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	wake := make(chan struct{}, 1)
	s.tabs[wake] = true
	return wake
}

func (s *server) leave(wake chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.tabs, wake)
}

// after returns the messages with greater ids than last.
func (s *server) after(last int) []message {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.history[min(last, len(s.history)):]
}

// events is the stream of a page. A browser that reconnects sends the id of the last event that it has received.
func (s *server) events(w http.ResponseWriter, r *http.Request) {
	user := r.FormValue("user")
	last, _ := strconv.Atoi(r.Header.Get("Last-Event-ID"))
	wake := s.join()
	defer s.leave(wake)

	w.Header().Set("Content-Type", "text/event-stream")
	for {
		for _, m := range s.after(last) {
			last++
			if m.to == user {
				fmt.Fprintf(w, "id: %d\ndata: %s\n\n", last, m.text)
			}
		}
		http.NewResponseController(w).Flush()
		select {
		case <-wake:
		case <-r.Context().Done():
			return
		}
	}
}

// send keeps a message for a user, and wakes the tabs.
func (s *server) send(w http.ResponseWriter, r *http.Request) {
	m := message{r.FormValue("to"), r.FormValue("text")}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.history = append(s.history, m)
	for wake := range s.tabs {
		select {
		case wake <- struct{}{}:
		default: // the tab will read anyway
		}
	}
	w.WriteHeader(http.StatusNoContent)
}
