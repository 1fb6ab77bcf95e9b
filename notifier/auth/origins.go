package auth

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// Origins tells pages that may use a user's cookie from those that may not. It is safe for concurrent use.
type Origins struct {
	allowed    map[string]bool
	protection *http.CrossOriginProtection
}

// NewOrigins returns the Origins that allows the pages of hark's own origin and those listed, each like
// "https://app.example.com": a scheme, a host and maybe a port. There are no wildcards, for what is
// allowed may act and read with the user's cookie.
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

// normalOrigin writes an origin as browsers do: in lower case, without the scheme's own port.
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

// Check returns an [*Error] if a call that carries the cookie may be the work of a foreign page. Calls
// that change nothing (GET, HEAD, OPTIONS) pass. Others must come from hark's own origin or an allowed
// one, and must say so: programs without either header have no business with cookies.
//
// Sec-Fetch-Site decides if it is there. If not, Origin must name the host that was asked, whatever its
// scheme: behind a proxy that ends TLS the scheme is not known here, and every browser that can tell the
// difference sends Sec-Fetch-Site (see [http.CrossOriginProtection]).
func (o *Origins) Check(r *http.Request) error {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return nil
	}
	origin := r.Header.Get("Origin")
	if origin == "" && r.Header.Get("Sec-Fetch-Site") == "" {
		return refuse(CodeOriginMissing, "A call with the cookie must say where it comes from (Origin or Sec-Fetch-Site); programs use Authorization: Bearer.")
	}
	// "null" is what sandboxed frames and local files call themselves: it is nobody in particular.
	if origin == "null" || len(r.Header.Values("Origin")) > 1 {
		return refuse(CodeOriginForbidden, "Pages without an origin of their own may not use the cookie.")
	}
	if err := o.protection.Check(r); err != nil {
		return &Error{
			Code: CodeOriginForbidden, cause: err,
			Detail: "Pages of this origin may not use the cookie; the operator can allow it with --allow-origin.",
		}
	}
	return nil
}

// Allowed reports whether origin, as a browser writes it, is on the list.
func (o *Origins) Allowed(origin string) bool { return o.allowed[origin] }

// CORS sets the headers by which a browser lets pages of allowed origins read the response, with
// credentials. Other origins get none, which is the refusal. It reports whether r is a preflight, which
// is to be answered with 204 and nothing else, and has no token (Fetch standard, section 3.2).
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
