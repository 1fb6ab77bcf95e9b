package hark_test

import (
	"context"
	"net/http"
	"os"
	"os/signal"

	"github.com/gin-gonic/gin"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"

	"github.com/hark-jobs/hark"
	"github.com/hark-jobs/hark/notifier"
	"github.com/hark-jobs/hark/notifier/inbox"
)

// hark below a path of a program's own router, on its NATS connection and its database, with its login.
func ExampleServer_Register() {
	serve := func(ctx context.Context, nc *nats.Conn, pool *pgxpool.Pool, login notifier.Authenticator, router *gin.Engine) error {
		store, err := inbox.NewPostgres(pool, inbox.Options{Schema: "hark"})
		if err != nil {
			return err
		}
		defer store.Close()
		srv, err := hark.New(ctx, hark.Options{NATS: nc, Inbox: store, Auth: login, Handlers: handlers})
		if err != nil {
			return err
		}
		srv.Register(router.Group("/internal/hark"))
		return srv.Run(ctx)
	}
	_ = serve
}

// All of hark in one process, with everything inside, on an address of its own.
func ExampleNew() {
	main := func() error {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
		defer stop()
		srv, err := hark.New(ctx, hark.Options{
			Data: "data", Listen: "localhost:4280", JWTSecret: hark.Secret{File: "jwt-secret"}, Handlers: handlers,
		})
		if err != nil {
			return err
		}
		return srv.Run(ctx)
	}
	_ = main
}

// hark in a program without a Gin router.
func ExampleServer_Handler() {
	serve := func(ctx context.Context, srv *hark.Server) error {
		server := &http.Server{Addr: "localhost:8080", Handler: srv.Handler()}
		go server.ListenAndServe()
		defer server.Close()
		return srv.Run(ctx)
	}
	_ = serve
}
