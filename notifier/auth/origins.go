package auth

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// Origins decides which pages may use a user's cookie. It is safe for concurrent use.
type Origins struct {
	allowed    map[string]bool
	protection *http.CrossOriginProtection
}

// NewOrigins returns Origins that allow the pages of hark's own origin and of those listed, such as
// "https://app.example.com": a scheme, a host and optionally a port. There are no wildcards, since an allowed page can read
// and change everything with the user's cookie.
func NewOrigins(allowed []string) (*Origins, error) {
	o := &Origins{allowed: make(map[string]bool), protection: http.NewCrossOriginProtection()}
	for _, given := range allowed {
		origin, err := normalOrigin(given)
		if err != nil {
			return nil, fmt.Errorf("auth: %w", err)
		}
		if err := o.protection.AddTrustedOrigin(origin); err != nil {
			return nil, fmt.Errorf("auth: %w", err)
		}
		o.allowed[origin] = true
	}
	return o, nil
}

// normalOrigin returns an origin in the form of browsers: in lower case, without the default port of the scheme.
func normalOrigin(given string) (string, error) {
	text := strings.TrimSuffix(strings.ToLower(strings.TrimSpace(given)), "/")
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" ||
		u.User != nil || strings.Contains(text, "*") || u.Scheme+"://"+u.Host != text {
		return "", fmt.Errorf("%.200q is not an origin like https://app.example.com", given)
	}
	if u.Scheme == "https" {
		return strings.TrimSuffix(text, ":443"), nil
	}
	return strings.TrimSuffix(text, ":80"), nil
}

// Check returns an [*Error] if a page of another site may have made a call with the cookie. Calls that change nothing (GET,
// HEAD, OPTIONS) pass. Others must come from hark's own origin or an allowed one, and must have Origin or Sec-Fetch-Site.
// Programs that send neither header must use bearer tokens.
//
// Sec-Fetch-Site decides if it is present. If not, Origin must have the host of the request, with any scheme: behind a proxy
// that terminates TLS hark does not know the scheme, and current browsers send Sec-Fetch-Site (see
// [http.CrossOriginProtection]).
func (o *Origins) Check(r *http.Request) error {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return nil
	}
	origin := r.Header.Get("Origin")
	if origin == "" && r.Header.Get("Sec-Fetch-Site") == "" {
		return newError(CodeOriginMissing, "A call with the cookie must have the header Origin or Sec-Fetch-Site; programs use Authorization: Bearer.")
	}
	// Sandboxed frames and local files send "null", which identifies no page.
	if origin == "null" || len(r.Header.Values("Origin")) > 1 {
		return newError(CodeOriginForbidden, "Pages without an origin, such as sandboxed frames and local files, may not use the cookie.")
	}
	if err := o.protection.Check(r); err != nil {
		return &Error{Code: CodeOriginForbidden, Detail: forbiddenDetail(r), cause: err}
	}
	return nil
}

// forbiddenDetail returns a sentence that says what the operator can do about a refused page. With Sec-Fetch-Site the browser
// itself says that the page is of another site. Without it Origin and Host differ, and a proxy may have changed Host.
func forbiddenDetail(r *http.Request) string {
	origin := r.Header.Get("Origin")
	if r.Header.Get("Sec-Fetch-Site") != "" {
		return "Pages of other sites may not use the cookie; the operator can allow them by their origin, with --allow-origin."
	}
	return fmt.Sprintf("The page is from %.200q, and the request is for the host %.200q. If the page is hark's own, a proxy between the two "+
		"must keep the Host header of the browser (nginx: proxy_set_header Host $http_host). If it is of another site, the operator can allow it with --allow-origin.",
		origin, r.Host)
}

// CORS sets the headers that allow pages of allowed origins to read the response, with credentials. For other origins it
// sets none, so that browsers refuse. It reports whether r is a preflight: the caller must respond with 204 and no body.
// A preflight has no token (Fetch standard, section 3.2).
func (o *Origins) CORS(h http.Header, r *http.Request) (preflight bool) {
	origin := r.Header.Get("Origin")
	preflight = r.Method == http.MethodOptions && origin != "" && r.Header.Get("Access-Control-Request-Method") != ""
	if len(o.allowed) > 0 {
		h.Add("Vary", "Origin")
	}
	if !o.allowed[origin] {
		return preflight
	}
	h.Set("Access-Control-Allow-Origin", origin)
	h.Set("Access-Control-Allow-Credentials", "true")
	if !preflight {
		h.Set("Access-Control-Expose-Headers", "Location, Retry-After, Content-Disposition, Content-Length, ETag, X-Request-Id")
		return false
	}
	h.Set("Access-Control-Allow-Methods", "GET, HEAD, POST, DELETE")
	h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, Idempotency-Key, Last-Event-ID, Prefer, Range, If-Range, X-Request-Id")
	h.Set("Access-Control-Max-Age", "7200")
	return true
}
