// Command step1 pushes messages to browsers, as it is often written first: a map with a channel for each user. It is wrong, and
// docs/from-scratch.md says why.
//
//	go run ./examples/from-scratch/step1
//	curl -N 'localhost:8080/events?user=ana'
//	curl localhost:8080/send -d to=ana -d text=hello
package main

import (
	"fmt"
	"log"
	"net/http"
)

func main() {
	log.Fatal(http.ListenAndServe("localhost:8080", newServer()))
}

type server struct {
	http.Handler
	streams map[string]chan string // by user
}

func newServer() *server {
	mux := http.NewServeMux()
	s := &server{Handler: mux, streams: map[string]chan string{}}
	mux.HandleFunc("GET /events", s.events)
	mux.HandleFunc("POST /send", s.send)
	return s
}

// events is the stream of a page: new EventSource("/events?user=ana").
func (s *server) events(w http.ResponseWriter, r *http.Request) {
	user := r.FormValue("user")
	messages := make(chan string)
	s.streams[user] = messages
	defer delete(s.streams, user)

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

// send sends a message to a user.
func (s *server) send(w http.ResponseWriter, r *http.Request) {
	if messages, ok := s.streams[r.FormValue("to")]; ok {
		messages <- r.FormValue("text")
	}
	w.WriteHeader(http.StatusNoContent)
}
