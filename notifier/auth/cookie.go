package auth

import (
	"net/http"
	"strings"
	"time"
)

// CookieName is the cookie a browser keeps its token in.
const CookieName = "hark_token"

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

// SetCookie puts the token into the cookie until it expires. The page cannot read it, and other sites
// cannot send it along but with a link that the user follows. A token too long for any browser's cookie
// is an [*Error].
func SetCookie(w http.ResponseWriter, r *http.Request, token string, expiresAt time.Time) error {
	if len(token) > maxCookieToken {
		return invalidToken("The token is longer than a cookie can be.")
	}
	cookie := newCookie(r, token)
	// Max-Age 0 is written as none at all, which would make it a cookie of the browser's session.
	cookie.MaxAge = max(int(time.Until(expiresAt)/time.Second), 1)
	http.SetCookie(w, cookie)
	return nil
}

// ClearCookie makes the browser forget its token.
func ClearCookie(w http.ResponseWriter, r *http.Request) {
	cookie := newCookie(r, "")
	cookie.MaxAge = -1
	http.SetCookie(w, cookie)
}

func newCookie(r *http.Request, value string) *http.Cookie {
	return &http.Cookie{
		Name: CookieName, Value: value, Path: "/",
		HttpOnly: true, SameSite: http.SameSiteLaxMode, Secure: secure(r),
	}
}

// secure reports whether the browser speaks TLS, as far as we, or the proxy before us, can tell. A
// browser that lies here only harms its own cookie.
func secure(r *http.Request) bool {
	first, _, _ := strings.Cut(r.Header.Get("X-Forwarded-Proto"), ",")
	return r.TLS != nil || strings.EqualFold(strings.TrimSpace(first), "https")
}
