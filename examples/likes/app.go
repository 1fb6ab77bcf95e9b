package main

import (
	"context"
	"crypto/rand"
	"database/sql"
	_ "embed"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"

	"github.com/gin-gonic/gin"
	_ "modernc.org/sqlite"

	"github.com/hark-jobs/hark"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/notifier/auth"
)

//go:embed page.html
var page []byte

// topic has an event for each comment that has another number of likes.
const topic = "comments"

// app is the application. The truth is in its database; hark passes on that something has changed.
type app struct {
	db     *sql.DB
	hark   *hark.Server
	router *gin.Engine
	log    *slog.Logger
}

func newApp(ctx context.Context, data string, logger *slog.Logger) (_ *app, err error) {
	a := &app{log: logger}
	defer func() {
		if err != nil {
			a.close()
		}
	}()
	if err := os.MkdirAll(data, 0o700); err != nil {
		return nil, err
	}
	a.db, err = sql.Open("sqlite", filepath.Join(data, "comments.db")+"?_pragma=journal_mode(WAL)&_pragma=busy_timeout(10000)&_txlock=immediate")
	if err != nil {
		return nil, err
	}
	_, err = a.db.ExecContext(ctx, `
		CREATE TABLE IF NOT EXISTS comments (id INTEGER PRIMARY KEY, text TEXT NOT NULL, likes INTEGER NOT NULL DEFAULT 0, version INTEGER NOT NULL DEFAULT 0);
		CREATE TABLE IF NOT EXISTS likes (comment INTEGER NOT NULL REFERENCES comments, visitor TEXT NOT NULL, PRIMARY KEY (comment, visitor));
		INSERT OR IGNORE INTO comments (id, text) VALUES (1, 'First.'), (2, 'I disagree.'), (3, 'Has anybody tried it?')`)
	if err != nil {
		return nil, err
	}
	a.hark, err = hark.New(ctx, hark.Options{
		Data: filepath.Join(data, "hark"), Auth: visitors{}, Topics: []jobs.TopicRule{{Topic: topic}}, Logger: logger,
	})
	if err != nil {
		return nil, err
	}
	a.router = gin.New()
	a.router.Use(gin.Recovery(), visit)
	a.router.GET("/", func(c *gin.Context) { c.Data(http.StatusOK, "text/html; charset=utf-8", page) })
	a.router.GET("/comments", a.list)
	a.router.PUT("/comments/:id/like", func(c *gin.Context) { a.like(c, 1, `INSERT OR IGNORE INTO likes (comment, visitor) VALUES (?, ?)`) })
	a.router.DELETE("/comments/:id/like", func(c *gin.Context) { a.like(c, -1, `DELETE FROM likes WHERE comment = ? AND visitor = ?`) })
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
	if a.db != nil {
		_ = a.db.Close()
	}
}

// comment is a comment as the page gets it. A greater version is a newer one.
type comment struct {
	ID      int64  `json:"id"`
	Text    string `json:"text,omitempty"`
	Likes   int    `json:"likes"`
	Mine    bool   `json:"mine,omitempty"` // the visitor likes it
	Version int64  `json:"version"`
}

// list answers with all comments, those with the most likes first.
func (a *app) list(c *gin.Context) {
	rows, err := a.db.QueryContext(c.Request.Context(), `
		SELECT id, text, likes, version, EXISTS (SELECT 1 FROM likes WHERE comment = id AND visitor = ?) FROM comments ORDER BY likes DESC, id`, c.GetString(cookie))
	if err != nil {
		a.fail(c, err)
		return
	}
	defer rows.Close()
	all := []comment{}
	for rows.Next() {
		var it comment
		if err := rows.Scan(&it.ID, &it.Text, &it.Likes, &it.Version, &it.Mine); err != nil {
			a.fail(c, err)
			return
		}
		all = append(all, it)
	}
	if err := rows.Err(); err != nil {
		a.fail(c, err)
		return
	}
	c.JSON(http.StatusOK, all)
}

// like adds a like of the visitor, or takes it back, and publishes the new number. A repeated request changes nothing.
func (a *app) like(c *gin.Context, by int, change string) {
	ctx := c.Request.Context()
	it, changed, err := a.change(ctx, c.Param("id"), c.GetString(cookie), by, change)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		c.String(http.StatusNotFound, "There is no such comment.")
		return
	case err != nil:
		a.fail(c, err)
		return
	}
	if changed {
		data, err := json.Marshal(it)
		if err == nil {
			err = a.hark.Queue().Publish(ctx, jobs.LiveEvent{Topic: topic, Type: "likes", Data: data})
		}
		if err != nil { // the like is stored all the same, and the next look at the page shows it
			a.log.Warn("like not published", "err", err)
		}
	}
	c.JSON(http.StatusOK, it)
}

// change changes the likes of a comment and their number in one transaction.
func (a *app) change(ctx context.Context, id, visitor string, by int, change string) (it comment, changed bool, err error) {
	tx, err := a.db.BeginTx(ctx, nil)
	if err != nil {
		return it, false, err
	}
	defer func() { _ = tx.Rollback() }()
	if err := tx.QueryRowContext(ctx, `SELECT id, likes, version FROM comments WHERE id = ?`, id).Scan(&it.ID, &it.Likes, &it.Version); err != nil {
		return it, false, err
	}
	result, err := tx.ExecContext(ctx, change, it.ID, visitor)
	if err != nil {
		return it, false, err
	}
	if n, err := result.RowsAffected(); err != nil || n == 0 {
		return it, false, err
	}
	it.Likes, it.Version = it.Likes+by, it.Version+1
	if _, err := tx.ExecContext(ctx, `UPDATE comments SET likes = ?, version = ? WHERE id = ?`, it.Likes, it.Version, it.ID); err != nil {
		return it, false, err
	}
	return it, true, tx.Commit()
}

func (a *app) fail(c *gin.Context, err error) {
	a.log.Error("request failed", "path", c.FullPath(), "err", err)
	c.String(http.StatusInternalServerError, "That did not work; try again.")
}

const cookie = "visitor"

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
