// Command step3 has a buffer for each tab, and never waits for one. It is still wrong: see docs/from-scratch.md.
//
//	go run ./examples/from-scratch/step3
//	curl -N 'localhost:8080/events?user=ana'
//	curl localhost:8080/send -d to=ana -d text=hello
package main

import (
	"fmt"
	"log"
	"net/http"
	"sync"
)

func main() {
	log.Fatal(http.ListenAndServe("localhost:8080", newServer()))
}

type server struct {
	http.Handler
	mu   sync.Mutex
	tabs map[string]map[chan string]bool // by user
}

func newServer() *server {
	mux := http.NewServeMux()
	s := &server{Handler: mux, tabs: map[string]map[chan string]bool{}}
	mux.HandleFunc("GET /events", s.events)
	mux.HandleFunc("POST /send", s.send)
	return s
}

func (s *server) join(user string) chan string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tabs[user] == nil {
		s.tabs[user] = map[chan string]bool{}
	}
	messages := make(chan string, 16)
	s.tabs[user][messages] = true
	return messages
}

func (s *server) leave(user string, messages chan string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.tabs[user], messages)
	if len(s.tabs[user]) == 0 {
		delete(s.tabs, user)
	}
}

// events is the stream of a page: new EventSource("/events?user=ana").
func (s *server) events(w http.ResponseWriter, r *http.Request) {
	user := r.FormValue("user")
	messages := s.join(user)
	defer s.leave(user, messages)

	w.Header().Set("Content-Type", "text/event-stream")
	flush := http.NewResponseController(w).Flush
	flush()
	for {
		select {
		case text := <-messages:
			fmt.Fprintf(w, "data: %s\n\n", text)
			flush()
		case <-r.Context().Done():
			return
		}
	}
}

// send sends a message to all tabs of a user.
func (s *server) send(w http.ResponseWriter, r *http.Request) {
	to, text := r.FormValue("to"), r.FormValue("text")
	s.mu.Lock()
	defer s.mu.Unlock()
	for messages := range s.tabs[to] {
		select {
		case messages <- text:
		default: // the tab is too slow
		}
	}
	w.WriteHeader(http.StatusNoContent)
}
