package main

import (
	"context"
	"database/sql"
	_ "embed"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"

	"github.com/gin-gonic/gin"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	_ "modernc.org/sqlite"

	"github.com/hark-jobs/hark"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/notifier/inbox"
	"github.com/hark-jobs/hark/worker"
)

//go:embed page.html
var page []byte

type options struct {
	data     string
	database string // URL of PostgreSQL; SQLite if empty
	log      *slog.Logger
}

// app is the application. It owns its database, and hark works with the same handle.
type app struct {
	db     *sql.DB
	login  *login
	hark   *hark.Server
	router *gin.Engine
	closes []func()
}

// newApp opens the database, and hark on it, and mounts both on one router.
func newApp(ctx context.Context, o options) (_ *app, err error) {
	a := new(app)
	defer func() {
		if err != nil {
			a.close()
		}
	}()
	if err := os.MkdirAll(o.data, 0o700); err != nil {
		return nil, err
	}
	store, err := a.openDatabase(ctx, o)
	if err != nil {
		return nil, err
	}
	if a.login, err = newLogin(ctx, a.db); err != nil {
		return nil, err
	}
	a.hark, err = hark.New(ctx, hark.Options{
		Data: filepath.Join(o.data, "hark"), Inbox: store, Auth: a.login, SignInURL: "/", Logger: o.log,
		Handlers: []worker.Handler{worker.Handle(Orders, a.orders)},
	})
	if err != nil {
		return nil, err
	}
	a.closes = append(a.closes, a.hark.Close)
	a.mount()
	return a, nil
}

// openDatabase opens the database of the application, and hark's inbox beside its tables: in a schema of its own with
// PostgreSQL, behind a prefix with SQLite.
func (a *app) openDatabase(ctx context.Context, o options) (*inbox.Store, error) {
	var store *inbox.Store
	if o.database != "" {
		pool, err := pgxpool.New(ctx, o.database)
		if err != nil {
			return nil, err
		}
		a.closes = append(a.closes, pool.Close)
		a.db = stdlib.OpenDBFromPool(pool)
		if store, err = inbox.NewPostgres(pool, inbox.Options{Schema: "hark"}); err != nil {
			return nil, err
		}
	} else {
		var err error
		a.db, err = sql.Open("sqlite", filepath.Join(o.data, "app.db")+"?_pragma=journal_mode(WAL)&_pragma=busy_timeout(10000)&_txlock=immediate")
		if err != nil {
			return nil, err
		}
		if store, err = inbox.NewSQLite(a.db, a.db, inbox.Options{TablePrefix: "hark_"}); err != nil {
			return nil, err
		}
	}
	a.closes = append(a.closes, func() { _ = a.db.Close() }, func() { _ = store.Close() })
	_, err := a.db.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS orders (customer TEXT NOT NULL, item TEXT NOT NULL, price INTEGER NOT NULL)`)
	if err != nil {
		return nil, err
	}
	return store, a.fill(ctx)
}

// fill makes a few orders for each user, once.
func (a *app) fill(ctx context.Context) error {
	var n int
	if err := a.db.QueryRowContext(ctx, `SELECT count(*) FROM orders`).Scan(&n); err != nil || n > 0 {
		return err
	}
	for user := range users {
		for i := 1; i <= 12; i++ {
			if _, err := a.db.ExecContext(ctx, `INSERT INTO orders VALUES ($1, $2, $3)`, user, fmt.Sprintf("Item %d of %s", i, user), 100*i); err != nil {
				return err
			}
		}
	}
	return nil
}

// mount puts the application and hark on one router. hark's API and hark.js are below /internal/hark/; the metrics are
// those of hark alone, in a registry of the application.
func (a *app) mount() {
	a.router = gin.New()
	a.router.Use(gin.Recovery())
	a.router.GET("/", func(c *gin.Context) { c.Data(http.StatusOK, "text/html; charset=utf-8", page) })
	a.router.POST("/login", a.login.begin)
	a.router.POST("/logout", func(c *gin.Context) { a.login.end(c, a.hark.EndSession) })

	internal := a.router.Group("/internal/hark")
	a.hark.Register(internal)
	a.hark.RegisterPage(internal)
	a.hark.RegisterHealth(internal)
	registry := prometheus.NewRegistry()
	registry.MustRegister(a.hark)
	a.router.GET("/metrics", gin.WrapH(promhttp.HandlerFor(registry, promhttp.HandlerOpts{})))
}

// close closes what is open, the newest first. It may be called when hark.Server.Run has closed hark.
func (a *app) close() {
	for i := len(a.closes) - 1; i >= 0; i-- {
		a.closes[i]()
	}
}

// OrdersParams are what the list of orders takes.
type OrdersParams struct {
	Dearest int `json:"dearest,omitempty" minimum:"0" maximum:"100"` // how many, the dearest first; 0 means all
}

// Orders is the kind of job that writes a user's orders to a file.
var Orders = jobs.Define[OrdersParams](jobs.Kind{Name: "orders", Title: "Orders"})

// orders writes the orders of the job's user, and of nobody else, to a file.
func (a *app) orders(ctx context.Context, job *worker.Job, p OrdersParams) (jobs.Result, error) {
	if p.Dearest == 0 {
		p.Dearest = 100
	}
	rows, err := a.db.QueryContext(ctx, `SELECT item, price FROM orders WHERE customer = $1 ORDER BY price DESC LIMIT $2`, job.User, p.Dearest)
	if err != nil {
		return jobs.Result{}, err
	}
	defer rows.Close()
	n := 0
	err = job.WriteFile(ctx, "orders.csv", "text/csv", func(w io.Writer) error {
		out := csv.NewWriter(w)
		for ; rows.Next(); n++ {
			var item string
			var price int
			if err := rows.Scan(&item, &price); err != nil {
				return err
			}
			if err := out.Write([]string{item, fmt.Sprint(price)}); err != nil {
				return err
			}
			job.Progress(int64(n+1), int64(p.Dearest), "")
		}
		out.Flush()
		return errors.Join(rows.Err(), out.Error())
	})
	return jobs.Result{Summary: fmt.Sprintf("%d orders", n)}, err
}
