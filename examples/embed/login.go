package main

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"database/sql"
	"errors"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/hark-jobs/hark/notifier/auth"
)

// users are the users of this example and their passwords. A real application has hashes, in its database.
var users = map[string]string{"ana": "ana", "bob": "bob"}

const cookie = "session"

// sessionAge is how long a session lasts.
const sessionAge = 8 * time.Hour

// login keeps the sessions of the application in its database. It is hark's Authenticator, too.
type login struct{ db *sql.DB }

func newLogin(ctx context.Context, db *sql.DB) (*login, error) {
	_, err := db.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS sessions (id TEXT PRIMARY KEY, user_name TEXT NOT NULL, began BIGINT NOT NULL)`)
	return &login{db}, err
}

// Authenticate returns the user of the session in the cookie. hark calls it for each of its requests.
func (l *login) Authenticate(r *http.Request) (auth.Identity, error) {
	nobody := &auth.Error{Code: auth.CodeTokenMissing, Detail: "Sign in first."}
	c, err := r.Cookie(cookie)
	if err != nil {
		return auth.Identity{}, nobody
	}
	var user string
	var began int64
	err = l.db.QueryRowContext(r.Context(), `SELECT user_name, began FROM sessions WHERE id = $1`, c.Value).Scan(&user, &began)
	begin := time.Unix(began, 0)
	ends := begin.Add(sessionAge)
	switch {
	case errors.Is(err, sql.ErrNoRows), err == nil && time.Now().After(ends):
		return auth.Identity{}, nobody
	case err != nil:
		return auth.Identity{}, err
	}
	return auth.Identity{User: user, ID: c.Value, IssuedAt: begin, ExpiresAt: ends, FromCookie: true}, nil
}

// begin signs a user in.
func (l *login) begin(c *gin.Context) {
	user, password := c.PostForm("user"), c.PostForm("password")
	want, known := users[user]
	if subtle.ConstantTimeCompare([]byte(password), []byte(want)) != 1 || !known {
		c.String(http.StatusUnauthorized, "The name or the password is wrong.")
		return
	}
	id := rand.Text()
	if _, err := l.db.ExecContext(c.Request.Context(), `INSERT INTO sessions VALUES ($1, $2, $3)`, id, user, time.Now().Unix()); err != nil {
		_ = c.AbortWithError(http.StatusInternalServerError, err)
		return
	}
	setCookie(c, id, int(sessionAge.Seconds()))
	c.Redirect(http.StatusSeeOther, "/")
}

// end signs the user out, and ends the open streams of the session.
func (l *login) end(c *gin.Context, endStreams func(session string)) {
	id, err := c.Cookie(cookie)
	if err == nil {
		if _, err := l.db.ExecContext(c.Request.Context(), `DELETE FROM sessions WHERE id = $1`, id); err != nil {
			_ = c.AbortWithError(http.StatusInternalServerError, err)
			return
		}
		endStreams(id)
	}
	setCookie(c, "", -1)
	c.Redirect(http.StatusSeeOther, "/")
}

func setCookie(c *gin.Context, value string, seconds int) {
	http.SetCookie(c.Writer, &http.Cookie{Name: cookie, Value: value, Path: "/", MaxAge: seconds, HttpOnly: true, SameSite: http.SameSiteLaxMode})
}
