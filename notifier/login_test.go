package notifier_test

import (
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hark-jobs/hark/harktest"
	"github.com/hark-jobs/hark/internal/natstest"
	"github.com/hark-jobs/hark/internal/polltest"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/notifier"
	"github.com/hark-jobs/hark/notifier/auth"
)

// login is an Authenticator of another program, with sessions named by a cookie.
type login struct {
	sessions sync.Map // identities by the value of the cookie
	err      error
}

func (l *login) Authenticate(r *http.Request) (auth.Identity, error) {
	if l.err != nil {
		return auth.Identity{}, l.err
	}
	cookie, err := r.Cookie("app_session")
	if err != nil {
		return auth.Identity{}, &auth.Error{Code: auth.CodeTokenMissing, Detail: "Sign in to the program first."}
	}
	id, ok := l.sessions.Load(cookie.Value)
	if !ok {
		return auth.Identity{}, &auth.Error{Code: auth.CodeTokenExpired, Detail: "The session of the program has ended."}
	}
	return id.(auth.Identity), nil
}

// with begins a session, and returns the headers of its page.
func (l *login) with(session string, id auth.Identity) []string {
	id.FromCookie = true
	l.sessions.Store(session, id)
	return []string{"Cookie", "app_session=" + session, "Sec-Fetch-Site", "same-origin"}
}

// mountWith mounts hark with this login in a program.
func mountWith(t *testing.T, options notifier.Options) *site {
	t.Helper()
	s := start(t, harktest.Secret(secret), harktest.Handlers(leave))
	app := program()
	s.another(options).Register(app.Group("/internal/hark"))
	return s.at(serve(t, app) + "/internal/hark")
}

func TestOwnLogin(t *testing.T) {
	login := &login{}
	s := mountWith(t, notifier.Options{Authenticator: login, SignInURL: "/login"})
	ana := login.with("1", auth.Identity{User: "ana"})
	bob := login.with("2", auth.Identity{User: "bob", Scope: []string{auth.ScopeAdmin, auth.ScopeNotify}})

	if p := s.call("GET", "/v1/session", "").problem(401, "token_missing"); p.Detail != "Sign in to the program first." || p.SignIn != "application" || p.SignInURL != "/login" {
		t.Errorf("got %+v", p)
	}
	s.call("GET", "/v1/session", "", "Cookie", "app_session=3").problem(401, "token_expired")
	s.call("GET", "/v1/session", "", s.as("ana")...).problem(401, "token_missing") // with a token that hark's own verifier would accept
	s.call("GET", "/v1/session", "", "Cookie", "hark_token="+s.Token("ana")).problem(401, "token_missing")
	if got := string(s.call("GET", "/v1/session", "", ana...).want(200).body); got != `{"user":"ana","scope":"","sign_in":"application"}` {
		t.Errorf("got %s", got)
	}

	live, _ := s.listen("/v1/stream", ana...)
	job := s.call("POST", "/v1/jobs", `{"kind":"leave","params":{"name":"a.txt","text":"0123456789"}}`, append(ana, "Prefer", "wait=30")...).want(200).job()
	var ended jobs.Notification
	if live.until("notification").into(t, &ended); job.User != "ana" || ended.JobID != job.ID {
		t.Errorf("got %+v of %+v", ended, job)
	}
	s.call("GET", filePath(job), "", ana...).want(200)
	s.call("GET", "/v1/jobs?user=ana", "", ana...).want(200)
	s.call("GET", "/v1/jobs?user=bob", "", ana...).problem(403, "scope_missing")
	s.call("GET", "/v1/jobs?user=ana", "", bob...).want(200)
	s.call("POST", "/v1/notifications", `{"user":"ana","type":"lunch","title":"Lunch"}`, bob...).want(201)

	// The program's cookie gets the same origin checks as hark's own.
	for code, headers := range map[string][]string{
		"origin_missing":   {"Cookie", "app_session=1"},
		"origin_forbidden": {"Cookie", "app_session=1", "Origin", "https://evil.example"},
	} {
		s.call("POST", "/v1/jobs", `{"kind":"leave"}`, headers...).problem(403, code)
	}

	login.sessions.Delete("1")
	s.call("GET", "/v1/jobs", "", ana...).problem(401, "token_expired")

	// The routes that need hark's own tokens do not exist.
	for call, status := range map[string]int{
		"POST /v1/session": 405, "DELETE /v1/session": 405, "POST /v1/stream/ticket": 404,
		"GET /v1/revocations": 404, "POST /v1/revocations": 404, "DELETE /v1/revocations?user=ana": 404,
	} {
		method, path, _ := strings.Cut(call, " ")
		res := s.open(t.Context(), method, path, "", bob...)
		res.Body.Close()
		if res.StatusCode != status || res.Header.Get("X-Request-Id") != "" {
			t.Errorf("%s: got %s of hark, want the program's %d", call, res.Status, status)
		}
	}
	s.call("GET", "/v1/stream?ticket=ABCDEFGHIJKLMNOPQRSTUVWXYZ", "", bob...).problem(401, "ticket_invalid")
}

// A stream ends when its session ends.
func TestOwnLoginExpires(t *testing.T) {
	login := &login{}
	s := mountWith(t, notifier.Options{Authenticator: login})
	ana := login.with("1", auth.Identity{User: "ana", ExpiresAt: time.Now().Add(5 * time.Second)})
	live, _ := s.listen("/v1/stream", ana...)
	if e := live.until("bye"); !strings.Contains(e.data, `"token_expired"`) {
		t.Errorf("got %+v", e)
	}
	polltest.Until(t, "the session has expired", func() bool { return s.call("GET", "/v1/jobs", "", ana...).StatusCode == 401 })
	s.call("GET", "/v1/jobs", "", ana...).problem(401, "token_expired")
}

// A login that breaks the contract of Authenticator does no harm.
func TestBadLogin(t *testing.T) {
	login := &login{}
	s := mountWith(t, notifier.Options{Authenticator: login})
	for _, user := range []string{"", "a\x00b", strings.Repeat("x", 2000), "_all"} {
		if want := jobs.CheckUser(user); want == nil {
			continue
		}
		for _, path := range []string{"/v1/session", "/v1/jobs", "/v1/stream", "/v1/events"} {
			s.call("GET", path, "", login.with("1", auth.Identity{User: user})...).problem(401, "token_invalid")
		}
	}
	login.err = errors.New("the database of sessions, with its secrets, is down")
	if p := s.call("GET", "/v1/jobs", "").problem(500, "internal"); strings.Contains(p.Detail, "secrets") {
		t.Errorf("got %+v", p)
	}
}

// Tickets and revocations work with the login of the program, if the options have them.
func TestOwnLoginWithTicketsAndRevocations(t *testing.T) {
	s := start(t, harktest.Secret(secret))
	store := s.Queue.Store()
	tickets, err := auth.OpenTickets(natstest.Context(t), store)
	if err != nil {
		t.Fatal(err)
	}
	revocations := auth.NewRevocations(auth.RevocationsOptions{})
	if err := revocations.Open(natstest.Context(t), store); err != nil {
		t.Fatal(err)
	}
	login := &login{}
	app := program()
	s.another(notifier.Options{Authenticator: login, Tickets: tickets, Revocations: revocations}).Register(app.Group("/hark"))
	s = s.at(serve(t, app) + "/hark")
	ana := login.with("1", auth.Identity{User: "ana", ID: "session 1", IssuedAt: time.Now()})
	bob := login.with("2", auth.Identity{User: "bob", Scope: []string{auth.ScopeAdmin}})

	var ticket struct{ Ticket string }
	s.call("POST", "/v1/stream/ticket", "", ana...).want(201).into(&ticket)
	_, hello := s.listen("/v1/stream?ticket=" + ticket.Ticket)
	if !strings.Contains(hello.data, `"user":"ana"`) {
		t.Errorf("got %+v", hello)
	}
	s.call("POST", "/v1/revocations", `{"jti":"session 1"}`, bob...).want(201)
	s.call("GET", "/v1/kinds", "", ana...).problem(401, "token_revoked")
	s.call("GET", "/v1/kinds", "", bob...).want(200)
}

func TestNewNeedsOneAuthenticator(t *testing.T) {
	for name, o := range map[string]notifier.Options{
		"nothing": {}, "both": {Authenticator: &login{}, Verifier: &auth.Verifier{}},
	} {
		if _, err := notifier.New(o); err == nil {
			t.Errorf("with %s there is no error", name)
		}
	}
}
