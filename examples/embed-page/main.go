// Command embed-page is a web application with users and a page of its own, which shows them what hark has for them.
// docs/embed.md leads through it.
package main

import (
	"bytes"
	"crypto/rand"
	_ "embed"
	"io"
	"log"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

//go:embed page.html
var page []byte

var sessions sync.Map // the user of each session of this application

func main() {
	secret, err := os.ReadFile(os.Getenv("HARK_JWT_SECRET_FILE")) // hark has the same
	if err != nil {
		log.Fatal(err)
	}
	secret = bytes.TrimRight(secret, "\r\n")
	http.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) { w.Write(page) })
	http.HandleFunc("POST /sign-in", func(w http.ResponseWriter, r *http.Request) {
		id := rand.Text()
		sessions.Store(id, r.FormValue("user")) // your application asks for a password before
		http.SetCookie(w, &http.Cookie{Name: "app_session", Value: id, HttpOnly: true, SameSite: http.SameSiteLaxMode})
		http.Redirect(w, r, "/", http.StatusSeeOther)
	})
	http.HandleFunc("GET /hark-token", func(w http.ResponseWriter, r *http.Request) {
		cookie, err := r.Cookie("app_session")
		if err != nil {
			cookie = new(http.Cookie)
		}
		user, ok := sessions.Load(cookie.Value)
		if !ok {
			http.Error(w, "Sign in first.", http.StatusUnauthorized)
			return
		}
		now := time.Now()
		token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
			"sub": user, "iat": now.Unix(), "exp": now.Add(10 * time.Minute).Unix(),
		}).SignedString(secret)
		if err != nil {
			http.Error(w, "No token could be made.", http.StatusInternalServerError)
			return
		}
		w.Header().Set("Cache-Control", "no-store")
		io.WriteString(w, token)
	})
	log.Fatal(http.ListenAndServe("localhost:5173", http.NewCrossOriginProtection().Handler(http.DefaultServeMux)))
}
