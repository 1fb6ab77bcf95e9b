package main

import (
	"context"
	"crypto/rand"
	"database/sql"
	_ "embed"
	"encoding/json"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/gin-gonic/gin"
	_ "modernc.org/sqlite"

	"github.com/hark-jobs/hark"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/notifier/auth"
)

//go:embed page.html
var page []byte

// topic has an event for each new line.
const topic = "board"

// app is the application. The truth is in its database; hark passes on the new lines.
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
	a.db, err = sql.Open("sqlite", filepath.Join(data, "board.db")+"?_pragma=journal_mode(WAL)&_pragma=busy_timeout(10000)")
	if err != nil {
		return nil, err
	}
	// No line is ever deleted, so their ids are 1, 2, 3 and so on, without gaps.
	if _, err = a.db.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS lines (id INTEGER PRIMARY KEY, text TEXT NOT NULL)`); err != nil {
		return nil, err
	}
	a.hark, err = hark.New(ctx, hark.Options{
		Data: filepath.Join(data, "hark"), Auth: visitors{}, Topics: []jobs.TopicRule{{Topic: topic}}, Logger: logger,
		// A reader that takes nothing for this long counts as gone, and its stream ends.
		Deadlines: hark.Deadlines{Write: 5 * time.Minute},
	})
	if err != nil {
		return nil, err
	}
	a.router = gin.New()
	a.router.Use(gin.Recovery(), visit)
	a.router.GET("/", func(c *gin.Context) { c.Data(http.StatusOK, "text/html; charset=utf-8", page) })
	a.router.POST("/send", a.send)
	a.router.GET("/lines", a.list)
	a.router.GET("/stream", gin.WrapH(a.hark.Stream(topic))) // hark's stream; the reader names no topic
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

// line is a line on the board. Their ids say their order.
type line struct {
	ID   int64  `json:"id"`
	Text string `json:"text"`
}

// maxText is the largest number of characters of a line.
const maxText = 4000

// send stores a line and publishes it to everyone.
func (a *app) send(c *gin.Context) {
	ctx := c.Request.Context()
	c.Request.Body = http.MaxBytesReader(c.Writer, c.Request.Body, 64<<10)
	it := line{Text: strings.ToValidUTF8(strings.TrimSpace(c.PostForm("text")), "\uFFFD")}
	if n := utf8.RuneCountInString(it.Text); n == 0 || n > maxText {
		c.String(http.StatusBadRequest, "A line has 1 to %d characters, in the form field text.", maxText)
		return
	}
	if err := a.db.QueryRowContext(ctx, `INSERT INTO lines (text) VALUES (?) RETURNING id`, it.Text).Scan(&it.ID); err != nil {
		a.fail(c, err)
		return
	}
	data, err := json.Marshal(it)
	if err == nil {
		err = a.hark.Queue().Publish(ctx, jobs.LiveEvent{Topic: topic, Type: "line", Data: data})
	}
	if err != nil { // the line is stored all the same, and pages fetch it when they get the next one
		a.log.Warn("line not published", "err", err)
	}
	c.JSON(http.StatusOK, it)
}

// maxLines is the largest number of lines in a response.
const maxLines = 200

// list answers with the first lines after the one with the id in the query, in their order.
func (a *app) list(c *gin.Context) {
	after, err := strconv.ParseInt(c.DefaultQuery("after", "0"), 10, 64)
	if err != nil {
		c.String(http.StatusBadRequest, "after is the id of a line.")
		return
	}
	rows, err := a.db.QueryContext(c.Request.Context(), `SELECT id, text FROM lines WHERE id > ? ORDER BY id LIMIT ?`, after, maxLines)
	if err != nil {
		a.fail(c, err)
		return
	}
	defer rows.Close()
	all := []line{}
	for rows.Next() {
		var it line
		if err := rows.Scan(&it.ID, &it.Text); err != nil {
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

func (a *app) fail(c *gin.Context, err error) {
	a.log.Error("request failed", "path", c.FullPath(), "err", err)
	c.String(http.StatusInternalServerError, "That did not work; try again.")
}

const cookie = "visitor"

// visit gives each browser a name that nobody else knows. A program without cookies has another one in each request.
func visit(c *gin.Context) {
	if id, err := c.Cookie(cookie); err == nil && id != "" {
		return
	}
	it := &http.Cookie{Name: cookie, Value: rand.Text(), Path: "/", MaxAge: 365 * 24 * 3600, HttpOnly: true, SameSite: http.SameSiteLaxMode}
	http.SetCookie(c.Writer, it)
	c.Request.AddCookie(it)
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
