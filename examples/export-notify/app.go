package main

import (
	"context"
	"crypto/rand"
	_ "embed"
	"encoding/json"
	"log/slog"
	"net/http"
	"sync"

	"github.com/gin-gonic/gin"

	"github.com/hark-jobs/hark"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/notifier/auth"
)

//go:embed page.html
var page []byte

type options struct {
	data  string
	allow []string // the other origins whose pages may call
	log   *slog.Logger
}

// app is the application. The jobs, their files and the notifications are hark's.
type app struct {
	hark       *hark.Server
	router     *gin.Engine
	login      login
	origins    *auth.Origins               // lets pages of the allowed origins read responses
	protection *http.CrossOriginProtection // refuses the calls of other pages
	log        *slog.Logger
}

func newApp(ctx context.Context, o options) (_ *app, err error) {
	a := &app{protection: http.NewCrossOriginProtection(), log: o.log}
	if a.origins, err = auth.NewOrigins(o.allow); err != nil {
		return nil, err
	}
	for _, origin := range o.allow {
		if err := a.protection.AddTrustedOrigin(origin); err != nil {
			return nil, err
		}
	}
	a.hark, err = hark.New(ctx, hark.Options{
		Data: o.data, Auth: &a.login, AllowOrigins: o.allow, Export: hark.Export{Sample: true}, Logger: o.log,
	})
	if err != nil {
		return nil, err
	}
	a.router = gin.New()
	a.router.Use(gin.Recovery())
	a.router.GET("/", func(c *gin.Context) { c.Data(http.StatusOK, "text/html; charset=utf-8", page) })
	guarded := a.router.Group("", a.guard)
	guarded.POST("/sign-in", a.login.begin)
	guarded.GET("/notification/socket-connection", gin.WrapH(a.hark.Stream()))
	guarded.GET("/notification/export-excel", a.export)
	at := a.router.Group("/hark") // checks the origins itself
	a.hark.Register(at)
	a.hark.RegisterHealth(at)
	return a, nil
}

// guard lets pages of the application's own origin and of the allowed ones call, and no others. To it a GET is like a POST, since
// the export is a GET that starts something.
func (a *app) guard(c *gin.Context) {
	a.origins.CORS(c.Writer.Header(), c.Request)
	call := *c.Request
	call.Method = http.MethodPost
	if a.protection.Check(&call) != nil {
		c.String(http.StatusForbidden, "Pages of this origin may not call.")
		c.Abort()
	}
}

// export starts an export for the user. Its progress and its end come on the stream, whether or not this tab is still there.
func (a *app) export(c *gin.Context) {
	c.Header("Cache-Control", "no-store")
	user, err := a.login.Authenticate(c.Request)
	if err != nil {
		c.String(http.StatusUnauthorized, "Sign in first.")
		return
	}
	job, err := a.hark.Queue().Enqueue(c.Request.Context(), jobs.Request{
		User: user.User, Kind: "export", Params: json.RawMessage(`{"dataset":"orders","status":"returned","from":"2026-01-01"}`),
	})
	if err != nil {
		a.log.Error("no export was started", "user", user.User, "err", err)
		c.String(http.StatusInternalServerError, "That did not work; try again.")
		return
	}
	c.JSON(http.StatusAccepted, gin.H{"id": job.ID})
}

const cookie = "export_session"

// login keeps the user of each session, and is hark's Authenticator. Sessions are in memory, so users sign in again after a restart;
// what hark has for them is there.
type login struct{ sessions sync.Map }

// begin signs a user in. A real application asks for a password.
func (l *login) begin(c *gin.Context) {
	user := c.PostForm("user")
	if jobs.CheckUser(user) != nil {
		c.String(http.StatusBadRequest, "That is not a name.")
		return
	}
	id := rand.Text()
	l.sessions.Store(id, user)
	http.SetCookie(c.Writer, &http.Cookie{Name: cookie, Value: id, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode})
	c.Status(http.StatusNoContent)
}

// Authenticate returns the user of the session in the cookie. The whole name is the user, and nothing is ever searched in it.
func (l *login) Authenticate(r *http.Request) (auth.Identity, error) {
	if c, err := r.Cookie(cookie); err == nil {
		if user, ok := l.sessions.Load(c.Value); ok {
			return auth.Identity{User: user.(string), ID: c.Value, FromCookie: true}, nil
		}
	}
	return auth.Identity{}, &auth.Error{Code: auth.CodeTokenMissing, Detail: "Sign in first."}
}
