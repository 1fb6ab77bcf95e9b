package auth

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strings"
	"time"
)

// CookieName is the cookie a browser keeps its token in.
const CookieName = "hark_token"

// RouteCookieName is the cookie that a proxy may hash on, so that all devices of a user reach the same
// notifier. It is no secret and grants nothing: hark never reads it.
const RouteCookieName = "hark_route"

// maxCookieToken is the longest token a cookie can hold: browsers drop, without a word, cookies of which
// name, value and attributes take more than 4,096 bytes.
const maxCookieToken = 3800

// FromRequest returns the token of the request, or "": of the header Authorization, and if that is no
// bearer's, of the cookie.
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

// SetCookie puts the token, whose identity is id, into the cookie until it expires. The page cannot read
// it, and other sites cannot send it along but with a link that the user follows. A token too long for any
// browser's cookie is an [*Error]. The cookie [RouteCookieName] is set with it, for as long.
func SetCookie(w http.ResponseWriter, r *http.Request, token string, id Identity) error {
	if len(token) > maxCookieToken {
		return invalidToken("The token is longer than a cookie can be.")
	}
	// Max-Age 0 is written as none at all, which would make it a cookie of the browser's session.
	maxAge := max(int(time.Until(id.ExpiresAt)/time.Second), 1)
	setCookie(w, r, CookieName, token, maxAge)
	setCookie(w, r, RouteCookieName, route(id.User), maxAge)
	return nil
}

// ClearCookie makes the browser forget what [SetCookie] has set.
func ClearCookie(w http.ResponseWriter, r *http.Request) {
	setCookie(w, r, CookieName, "", -1)
	setCookie(w, r, RouteCookieName, "", -1)
}

func setCookie(w http.ResponseWriter, r *http.Request, name, value string, maxAge int) {
	http.SetCookie(w, &http.Cookie{
		Name: name, Value: value, Path: "/", MaxAge: maxAge,
		HttpOnly: true, SameSite: http.SameSiteLaxMode, Secure: secure(r),
	})
}

// route is the same for all tokens of a user, and in all versions: with another value all users would
// move to other notifiers. 32 bits spread users well over any number of notifiers.
func route(user string) string {
	sum := sha256.Sum256([]byte(user))
	return hex.EncodeToString(sum[:4])
}

// secure reports whether the browser speaks TLS, as far as we, or the proxy before us, can tell. A
// browser that lies here only harms its own cookie.
func secure(r *http.Request) bool {
	first, _, _ := strings.Cut(r.Header.Get("X-Forwarded-Proto"), ",")
	return r.TLS != nil || strings.EqualFold(strings.TrimSpace(first), "https")
}
