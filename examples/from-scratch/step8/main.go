// Command step8 pushes messages to browsers and makes reports, with hark inside. docs/from-scratch.md leads to it.
//
//	go run ./examples/from-scratch/step8
//
// Then open http://localhost:8080. Several processes share NATS servers and a PostgreSQL database (--nats, --database).
package main

import (
	"context"
	"crypto/rand"
	_ "embed"
	"flag"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/hark-jobs/hark"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/notifier/auth"
	"github.com/hark-jobs/hark/queue"
	"github.com/hark-jobs/hark/worker"
)

//go:embed page.html
var page []byte

func main() {
	var o hark.Options
	listen := flag.String("listen", "localhost:8080", "Where to answer HTTP.")
	flag.StringVar(&o.Data, "data", "messages-data", "Folder of the NATS server and the inbox inside.")
	flag.StringVar(&o.NATSServers.URL, "nats", "", "NATS servers, in place of the one inside.")
	flag.StringVar(&o.Database.Value, "database", "", "URL of a PostgreSQL database for the inbox, in place of a file.")
	flag.Parse()
	if o.NATSServers.URL != "" {
		o.Data = ""
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	s, err := newServer(ctx, o, log.Default(), makeReport)
	if err != nil {
		log.Fatal(err)
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", *listen)
	if err != nil {
		log.Fatal(err)
	}
	if err := s.hark.Serve(ctx, l, s); err != nil {
		log.Fatal(err)
	}
}

type server struct {
	http.Handler
	hark     *hark.Server
	log      *log.Logger
	work     func(context.Context) error // makes a report
	sessions sync.Map                    // the user of each session
}

type reportParams struct{}

var report = jobs.Define[reportParams](jobs.Kind{Name: "report", Title: "Report"})

func newServer(ctx context.Context, o hark.Options, logger *log.Logger, work func(context.Context) error) (*server, error) {
	s := &server{log: logger, work: work}
	o.Auth = s
	o.Handlers = []worker.Handler{worker.Handle(report, s.makeReport)}
	var err error
	if s.hark, err = hark.New(ctx, o); err != nil {
		return nil, err
	}
	router := gin.New()
	at := router.Group("/hark")
	s.hark.Register(at)     // the API: /hark/v1/…
	s.hark.RegisterPage(at) // and hark.js

	mux := http.NewServeMux()
	s.Handler = s.logged(http.NewCrossOriginProtection().Handler(mux))
	mux.Handle("/hark/", router)
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) { w.Write(page) })
	mux.HandleFunc("POST /login", s.login)
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

// login sets a cookie. A real one asks for a password, has the flag Secure, and keeps sessions in a database.
func (s *server) login(w http.ResponseWriter, r *http.Request) {
	token := rand.Text()
	s.sessions.Store(token, r.FormValue("user"))
	http.SetCookie(w, &http.Cookie{Name: "session", Value: token, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode})
}

// Authenticate says to hark who makes a request.
func (s *server) Authenticate(r *http.Request) (auth.Identity, error) {
	cookie, err := r.Cookie("session")
	if err != nil {
		cookie = new(http.Cookie)
	}
	user, ok := s.sessions.Load(cookie.Value)
	if !ok {
		return auth.Identity{}, &auth.Error{Code: auth.CodeTokenMissing, Detail: "Sign in first."}
	}
	return auth.Identity{User: user.(string), ID: cookie.Value, FromCookie: true}, nil
}

// signedIn calls next with the user of the session.
func (s *server) signedIn(next func(w http.ResponseWriter, r *http.Request, user string)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		who, err := s.Authenticate(r)
		if err != nil {
			http.Error(w, "Sign in first.", http.StatusUnauthorized)
			return
		}
		next(w, r, who.User)
	}
}

// send notifies users.
func (s *server) send(w http.ResponseWriter, r *http.Request, from string) {
	var all []jobs.Addressed
	for user := range strings.SplitSeq(r.FormValue("to"), ",") {
		all = append(all, jobs.Addressed{User: user, Notification: jobs.Notification{
			Type: "message", Title: "Message from " + from, Body: r.FormValue("text"),
		}})
	}
	if _, err := s.hark.Queue().NotifyAll(r.Context(), all); err != nil {
		http.Error(w, "That did not work; try again.", http.StatusInternalServerError)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// report enqueues a report for the user. hark notifies the user when it is done.
func (s *server) report(w http.ResponseWriter, r *http.Request, user string) {
	if _, err := queue.Enqueue(r.Context(), s.hark.Queue(), report, user, reportParams{}); err != nil {
		http.Error(w, "That did not work; try again.", http.StatusInternalServerError)
		return
	}
	w.WriteHeader(http.StatusAccepted)
}

// makeReport is the job. hark begins it again if the process ends before it is done.
func (s *server) makeReport(ctx context.Context, _ *worker.Job, _ reportParams) (jobs.Result, error) {
	return jobs.Result{}, s.work(ctx)
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
