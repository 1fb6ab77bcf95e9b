package main

import (
	"context"
	_ "embed"
	"log/slog"
	"net/http"
	"path/filepath"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/hark-jobs/hark"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/notifier/auth"
)

//go:embed page.html
var page []byte

// topic is the topic that all pages listen to. Who listens to it is connected.
const topic = "online"

// manager is the user who may end the streams of others.
const manager = "manager"

// tokenAge is how long a user is signed in.
const tokenAge = 8 * time.Hour

// app is one server of the application.
type app struct {
	hark   *hark.Server
	tokens *auth.Issuer
	router *gin.Engine
}

// newApp opens a server on the NATS at a URL or, without one, with NATS inside. The servers share the folder data.
func newApp(ctx context.Context, data, nats string, logger *slog.Logger) (_ *app, err error) {
	a := new(app)
	defer func() {
		if err != nil {
			a.close()
		}
	}()
	key := filepath.Join(data, "key") // all servers sign and verify with it
	if _, err := auth.LoadOrCreateSecret(key); err != nil {
		return nil, err
	}
	o := hark.Options{
		JWTSecret: hark.Secret{File: key}, Logger: logger,
		// On several machines this is PostgreSQL.
		Database: hark.Secret{Value: filepath.Join(data, "inbox.db")},
		// Every user may see who listens, and is notified when others come and go.
		Topics: []jobs.TopicRule{{Topic: topic, Listeners: true, Announce: true}},
	}
	if nats == "" {
		o.Data, o.NATSListen = filepath.Join(data, "hark"), "localhost:0"
	} else {
		o.NATSServers.URL = nats
	}
	if a.hark, err = hark.New(ctx, o); err != nil {
		return nil, err
	}
	if a.tokens, err = a.hark.Issuer(); err != nil {
		return nil, err
	}
	a.router = gin.New()
	a.router.Use(gin.Recovery())
	a.router.GET("/", func(c *gin.Context) { c.Data(http.StatusOK, "text/html; charset=utf-8", page) })
	a.router.POST("/token", a.signIn)
	at := a.router.Group("/hark")
	a.hark.Register(at)
	a.hark.RegisterPage(at)
	a.hark.RegisterHealth(at)
	return a, nil
}

func (a *app) close() {
	if a.hark != nil {
		a.hark.Close()
	}
}

// signIn answers with a token for a user. A real application checks a password here.
func (a *app) signIn(c *gin.Context) {
	user := c.PostForm("name")
	if err := jobs.CheckUser(user); err != nil {
		c.String(http.StatusBadRequest, "This name is not possible: %v.", err)
		return
	}
	var scope []string
	if user == manager {
		scope = []string{auth.ScopeAdmin}
	}
	token, _, err := a.tokens.Issue(user, scope, tokenAge)
	if err != nil {
		_ = c.AbortWithError(http.StatusInternalServerError, err)
		return
	}
	c.JSON(http.StatusOK, gin.H{"user": user, "token": token, "manages": user == manager})
}
