package hark_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"time"

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

// A program that keeps jobs and notifications for 30 days on its NATS cluster, and shows what would change.
func ExampleSetup() {
	setup := func(ctx context.Context, nc *nats.Conn) error {
		changes, err := hark.Setup(ctx, hark.SetupOptions{
			Location: hark.Location{NATS: nc},
			Settings: hark.Settings{MaxAge: 30 * 24 * time.Hour, Replicas: 3},
			DryRun:   true,
		})
		for _, change := range changes {
			fmt.Println(change) // hark_log: max_age 168h0m0s -> 720h0m0s
		}
		return err
	}
	_ = setup
}

// A backup of the streams in NATS while hark runs.
func ExampleBackup() {
	save := func(ctx context.Context, nc *nats.Conn) error {
		dir := "/backup/hark-" + time.Now().Format("2006-01-02")
		_, err := hark.Backup(ctx, dir, hark.BackupOptions{Location: hark.Location{NATS: nc}})
		return err
	}
	_ = save
}

// A restore into the data folder of a hark that does not run.
func ExampleRestore() {
	restore := func(ctx context.Context) error {
		restored, err := hark.Restore(ctx, "/backup/hark-2026-11-26", hark.RestoreOptions{Location: hark.Location{Data: "data"}})
		for _, stream := range restored.Streams {
			fmt.Println(stream.Name, stream.Messages)
		}
		return err
	}
	_ = restore
}
