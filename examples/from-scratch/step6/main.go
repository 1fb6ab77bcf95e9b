// Command step6 compares users exactly, has its tokens in a cookie, and makes reports. It is still wrong: see
// docs/from-scratch.md.
//
//	go run ./examples/from-scratch/step6
//	curl -c cookies localhost:8080/login -d user=ana
//	curl -b cookies -N localhost:8080/events
//	curl -b cookies localhost:8080/send -d to=ana,bob -d text=hello
//	curl -b cookies -X POST localhost:8080/report
package main

import (
	"context"
	"crypto/rand"
	"database/sql"
	"fmt"
	"log"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	_ "modernc.org/sqlite"
)

func main() {
	s, err := newServer("messages.db", log.Default(), makeReport)
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(http.ListenAndServe("localhost:8080", s))
}

type server struct {
	http.Handler
	db       *sql.DB
	log      *log.Logger
	work     func(context.Context) error // makes a report
	sessions sync.Map                    // the user of each token
	mu       sync.Mutex
	tabs     map[chan struct{}]bool
}

func newServer(path string, logger *log.Logger, work func(context.Context) error) (*server, error) {
	db, err := sql.Open("sqlite", path+"?_pragma=journal_mode(WAL)&_pragma=busy_timeout(10000)&_txlock=immediate")
	if err != nil {
		return nil, err
	}
	_, err = db.Exec(`CREATE TABLE IF NOT EXISTS messages (id INTEGER PRIMARY KEY AUTOINCREMENT, recipient TEXT NOT NULL, text TEXT NOT NULL)`)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	s := &server{db: db, log: logger, work: work, tabs: map[chan struct{}]bool{}}
	s.Handler = s.logged(http.NewCrossOriginProtection().Handler(mux))
	mux.HandleFunc("POST /login", s.login)
	mux.HandleFunc("GET /events", s.signedIn(s.events))
	mux.HandleFunc("POST /send", s.signedIn(s.send))
	mux.HandleFunc("POST /report", s.signedIn(s.report))
	return s, nil
}

func (s *server) logged(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.log.Println(r.Method, r.URL)
		next.ServeHTTP(w, r)
	})
}

// login sets a cookie. A real one asks for a password, and has the flag Secure.
func (s *server) login(w http.ResponseWriter, r *http.Request) {
	token := rand.Text()
	s.sessions.Store(token, r.FormValue("user"))
	http.SetCookie(w, &http.Cookie{Name: "session", Value: token, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode})
}

// signedIn calls next with the user of the session.
func (s *server) signedIn(next func(w http.ResponseWriter, r *http.Request, user string)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		cookie, err := r.Cookie("session")
		if err != nil {
			cookie = new(http.Cookie)
		}
		user, ok := s.sessions.Load(cookie.Value)
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
	rows, err := s.db.Query(`SELECT id, text FROM messages WHERE id > ? AND recipient = ? ORDER BY id`, last, user)
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
	if err := s.store(r.FormValue("text"), strings.Split(r.FormValue("to"), ",")); err != nil {
		http.Error(w, "That did not work; try again.", http.StatusInternalServerError)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// store stores a message for all of the users, or for none, and wakes the tabs.
func (s *server) store(text string, to []string) error {
	var rows []string
	var values []any
	for _, user := range to {
		rows, values = append(rows, "(?, ?)"), append(values, user, text)
	}
	_, err := s.db.Exec(`INSERT INTO messages (recipient, text) VALUES `+strings.Join(rows, ", "), values...)
	s.wake()
	return err
}

// report makes a report for the user, and says when it is done.
func (s *server) report(w http.ResponseWriter, r *http.Request, user string) {
	err := s.work(r.Context())
	if err == nil {
		err = s.store("Report is done", []string{user})
	}
	if err != nil {
		http.Error(w, "That did not work; try again.", http.StatusInternalServerError)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// makeReport stands for ten seconds of work.
func makeReport(ctx context.Context) error {
	select {
	case <-time.After(10 * time.Second):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
