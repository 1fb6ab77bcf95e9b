package auth

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strings"
	"time"
)

// CookieName is the name of the cookie with the token.
const CookieName = "hark_token"

// RouteCookieName is the name of a cookie that a proxy may hash on, so that all devices of a user reach the same notifier.
// It is not a secret and grants nothing: hark never reads it.
const RouteCookieName = "hark_route"

// maxCookieToken is the largest size of a token in a cookie, in bytes. Browsers silently drop a cookie if its name, value
// and attributes have more than 4,096 bytes.
const maxCookieToken = 3800

// FromRequest returns the token of a request: the bearer token of its Authorization header, else the cookie, else "".
func FromRequest(r *http.Request) (token string, fromCookie bool) {
	scheme, rest, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if strings.EqualFold(scheme, "Bearer") {
		return strings.TrimSpace(rest), false
	}
	if cookie, err := r.Cookie(CookieName); err == nil && cookie.Value != "" {
		return cookie.Value, true
	}
	return "", false
}

// SetCookie stores the token with the identity id in the cookie, until the token expires. Scripts cannot read the cookie, and
// requests from other sites do not carry it, except when the user follows a link. If the token is too long for a cookie,
// the error is an [*Error]. SetCookie also sets [RouteCookieName], with the same lifetime.
//
// The cookies have no path, so browsers use the folder of the request (RFC 6265, section 5.1.4): the API of hark, below
// whichever path a proxy serves it. Neither another hark on the same host nor another program gets them.
func SetCookie(w http.ResponseWriter, r *http.Request, token string, id Identity) error {
	if len(token) > maxCookieToken {
		return invalidToken("The token is longer than a cookie can be.")
	}
	// http.Cookie omits a MaxAge of 0, which would make it a session cookie.
	maxAge := max(int(time.Until(id.ExpiresAt)/time.Second), 1)
	setCookie(w, r, CookieName, token, maxAge)
	setCookie(w, r, RouteCookieName, route(id.User), maxAge)
	return nil
}

// ClearCookie deletes the cookies of [SetCookie] in the browser.
func ClearCookie(w http.ResponseWriter, r *http.Request) {
	setCookie(w, r, CookieName, "", -1)
	setCookie(w, r, RouteCookieName, "", -1)
}

func setCookie(w http.ResponseWriter, r *http.Request, name, value string, maxAge int) {
	http.SetCookie(w, &http.Cookie{
		Name: name, Value: value, MaxAge: maxAge,
		HttpOnly: true, SameSite: http.SameSiteLaxMode, Secure: secure(r),
	})
}

// route returns the value of [RouteCookieName]. It is the same for all tokens of a user, and must stay the same in all
// versions, or all users would move to other notifiers. 32 bits distribute users well over any number of notifiers.
func route(user string) string {
	sum := sha256.Sum256([]byte(user))
	return hex.EncodeToString(sum[:4])
}

// secure reports whether the browser uses TLS, to hark or to a proxy that says so. A browser that sends a false header only
// affects its own cookie.
func secure(r *http.Request) bool {
	first, _, _ := strings.Cut(r.Header.Get("X-Forwarded-Proto"), ",")
	return r.TLS != nil || strings.EqualFold(strings.TrimSpace(first), "https")
}
