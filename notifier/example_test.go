package notifier_test

import (
	"net/http"

	"github.com/hark-jobs/hark/notifier"
	"github.com/hark-jobs/hark/notifier/auth"
)

// sessions finds the user of a session of the program.
type sessions map[string]string

// Authenticate implements [notifier.Authenticator] with the cookie of the program's own login.
func (s sessions) Authenticate(r *http.Request) (auth.Identity, error) {
	cookie, err := r.Cookie("session")
	if err != nil || s[cookie.Value] == "" {
		return auth.Identity{}, &auth.Error{Code: auth.CodeTokenMissing, Detail: "Sign in first."}
	}
	return auth.Identity{User: s[cookie.Value], ID: cookie.Value, FromCookie: true}, nil
}

// A login of the program's own, in place of JWTs: it is the Auth of the options of package hark.
func ExampleAuthenticator() {
	var login notifier.Authenticator = sessions{}
	_ = login
}
