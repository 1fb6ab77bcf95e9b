// Command step5 keeps the messages in a database. A message may be for several users, who sign in. It is still wrong: see
// docs/from-scratch.md.
//
//	go run ./examples/from-scratch/step5
//	TOKEN=$(curl localhost:8080/login -d user=ana)
//	curl -N "localhost:8080/events?token=$TOKEN"
//	curl "localhost:8080/send?token=$TOKEN" -d to=ana,bob -d text=hello
package main

import (
	"crypto/rand"
	"database/sql"
	"fmt"
	"log"
	"net/http"
	"strconv"
	"sync"

	_ "modernc.org/sqlite"
)

func main() {
	s, err := newServer("messages.db", log.Default())
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(http.ListenAndServe("localhost:8080", s))
}

type server struct {
	http.Handler
	db       *sql.DB
	log      *log.Logger
	sessions sync.Map // the user of each token
	mu       sync.Mutex
	tabs     map[chan struct{}]bool
}

func newServer(path string, logger *log.Logger) (*server, error) {
	db, err := sql.Open("sqlite", path+"?_pragma=journal_mode(WAL)&_pragma=busy_timeout(10000)&_txlock=immediate")
	if err != nil {
		return nil, err
	}
	_, err = db.Exec(`CREATE TABLE IF NOT EXISTS messages (id INTEGER PRIMARY KEY AUTOINCREMENT, recipients TEXT NOT NULL, text TEXT NOT NULL)`)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	s := &server{db: db, log: logger, tabs: map[chan struct{}]bool{}}
	s.Handler = s.logged(mux)
	mux.HandleFunc("POST /login", s.login)
	mux.HandleFunc("GET /events", s.signedIn(s.events))
	mux.HandleFunc("POST /send", s.signedIn(s.send))
	return s, nil
}

func (s *server) logged(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.log.Println(r.Method, r.URL)
		next.ServeHTTP(w, r)
	})
}

// login answers with a token. A real one asks for a password.
func (s *server) login(w http.ResponseWriter, r *http.Request) {
	token := rand.Text()
	s.sessions.Store(token, r.FormValue("user"))
	fmt.Fprint(w, token)
}

// signedIn calls next with the user of the token in the URL: an EventSource cannot send a header.
func (s *server) signedIn(next func(w http.ResponseWriter, r *http.Request, user string)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		user, ok := s.sessions.Load(r.FormValue("token"))
		if !ok {
			http.Error(w, "Sign in first.", http.StatusUnauthorized)
			return
		}
		next(w, r, user.(string))
	}
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

func (s *server) wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for wake := range s.tabs {
		select {
		case wake <- struct{}{}:
		default: // the tab will read anyway
		}
	}
}

// write writes the messages for a user after the id last, and returns the id of the last one.
func (s *server) write(w http.ResponseWriter, user string, last int64) (int64, error) {
	rows, err := s.db.Query(`SELECT id, text FROM messages WHERE id > ? AND recipients LIKE '%' || ? || '%' ORDER BY id`, last, user)
	if err != nil {
		return last, err
	}
	defer rows.Close()
	for rows.Next() {
		var text string
		if err := rows.Scan(&last, &text); err != nil {
			return last, err
		}
		fmt.Fprintf(w, "id: %d\ndata: %s\n\n", last, text)
	}
	return last, rows.Err()
}

func (s *server) events(w http.ResponseWriter, r *http.Request, user string) {
	last, _ := strconv.ParseInt(r.Header.Get("Last-Event-ID"), 10, 64)
	wake := s.join()
	defer s.leave(wake)

	w.Header().Set("Content-Type", "text/event-stream")
	for {
		var err error
		if last, err = s.write(w, user, last); err != nil {
			s.log.Print(err)
			return // the browser reconnects
		}
		http.NewResponseController(w).Flush()
		select {
		case <-wake:
		case <-r.Context().Done():
			return
		}
	}
}

func (s *server) send(w http.ResponseWriter, r *http.Request, _ string) {
	_, err := s.db.Exec(`INSERT INTO messages (recipients, text) VALUES (?, ?)`, r.FormValue("to"), r.FormValue("text"))
	if err != nil {
		http.Error(w, "That did not work; try again.", http.StatusInternalServerError)
		return
	}
	s.wake()
	w.WriteHeader(http.StatusNoContent)
}
