package main

import (
	"context"
	"crypto/rand"
	_ "embed"
	"fmt"
	"log/slog"
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/hark-jobs/hark"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/notifier/auth"
	"github.com/hark-jobs/hark/worker"
)

//go:embed page.html
var page []byte

type options struct {
	data string
	step func(context.Context) error // one step of the operation
	log  *slog.Logger
}

type app struct {
	hark   *hark.Server
	router *gin.Engine
	step   func(context.Context) error
	log    *slog.Logger
}

func newApp(ctx context.Context, o options) (_ *app, err error) {
	a := &app{step: o.step, log: o.log}
	a.hark, err = hark.New(ctx, hark.Options{
		Data: o.data, Auth: visitors{}, Handlers: []worker.Handler{worker.Handle(Operation, a.operate)}, Logger: o.log,
	})
	if err != nil {
		return nil, err
	}
	a.router = gin.New()
	a.router.Use(gin.Recovery(), visit)
	a.router.GET("/", func(c *gin.Context) { c.Data(http.StatusOK, "text/html; charset=utf-8", page) })
	a.router.POST("/ping", a.ping)
	at := a.router.Group("/hark")
	a.hark.Register(at)
	a.hark.RegisterPage(at)
	a.hark.RegisterHealth(at)
	return a, nil
}

// Operation is the kind of the slow job. It has no params. A page enqueues it with hark.enqueue("operation").
var Operation = jobs.Define[struct{}](jobs.Kind{Name: "operation", Title: "Slow operation"})

const steps = 10

// operate runs in the background, for the user of the job. No tab has to stay open for it. If the program is stopped meanwhile, the
// job begins again after the next start.
func (a *app) operate(ctx context.Context, job *worker.Job, _ struct{}) (jobs.Result, error) {
	for i := range steps {
		if err := a.step(ctx); err != nil {
			return jobs.Result{}, err
		}
		job.Progress(int64(i+1), steps, "")
	}
	return jobs.Result{Summary: fmt.Sprintf("%d steps.", steps)}, nil
}

// ping sends the user a live event. The page calls it when its stream has begun, so a ping shows that the whole way is open.
func (a *app) ping(c *gin.Context) {
	err := a.hark.Queue().Publish(c.Request.Context(), jobs.LiveEvent{Topic: jobs.UserTopic(c.GetString(cookie)), Type: "ping"})
	if err != nil {
		a.log.Warn("ping not published", "err", err)
		c.String(http.StatusServiceUnavailable, "That did not work; try again.")
		return
	}
	c.Status(http.StatusNoContent)
}

const cookie = "slow_operation_visitor"

// visit gives each browser a name that nobody else knows.
func visit(c *gin.Context) {
	id, err := c.Cookie(cookie)
	if err != nil || id == "" {
		id = rand.Text()
		http.SetCookie(c.Writer, &http.Cookie{Name: cookie, Value: id, Path: "/", MaxAge: 365 * 24 * 3600, HttpOnly: true, SameSite: http.SameSiteLaxMode})
	}
	c.Set(cookie, id)
}

// visitors is hark's Authenticator: a visitor is a user.
type visitors struct{}

func (visitors) Authenticate(r *http.Request) (auth.Identity, error) {
	c, err := r.Cookie(cookie)
	if err != nil || c.Value == "" {
		return auth.Identity{}, &auth.Error{Code: auth.CodeTokenMissing, Detail: "Open the page first."}
	}
	return auth.Identity{User: c.Value, FromCookie: true}, nil
}
