package check

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
)

// headers checks whether hark gets the host and the scheme that a browser uses. It signs out of a session that does not exist. hark
// refuses that unless the page's origin is that of the host, and clears the cookie with the attributes that it would set.
func (c *checker) headers(ctx context.Context) bool {
	at, err := url.Parse(c.URL)
	if err != nil {
		return true // the earlier checks would have failed
	}
	ctx, cancel := context.WithTimeout(ctx, 2*c.First)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodDelete, c.URL+"/v1/session", nil)
	if err != nil {
		return true
	}
	req.Header.Set("Origin", at.Scheme+"://"+at.Host)
	req.Header.Set("Cookie", "hark_token=check")
	res, err := c.Transport.RoundTrip(req)
	if err != nil {
		c.say(Bad, "refuses_delete", "Make the proxy pass on DELETE requests and their responses unchanged.", "DELETE /v1/session gets no response: %v.", err)
		return true
	}
	defer res.Body.Close()
	var refused problem
	if text, err := io.ReadAll(io.LimitReader(res.Body, 64<<10)); err == nil {
		_ = json.Unmarshal(text, &refused) // a response that is not a problem of hark has no code
	}
	switch {
	case refused.Code == "origin_forbidden":
		level := Bad
		if saysSite(at) {
			level = Note
		}
		c.say(level, "changes_host", "Make the proxy pass on Host: nginx proxy_set_header Host $http_host, Apache ProxyPreserveHost On.",
			"The header Host does not reach hark: over plain HTTP, and from old browsers, calls of hark's own page are refused.")
	case res.StatusCode != http.StatusNoContent:
		c.say(Bad, "refuses_delete", "Make the proxy pass on DELETE requests and their responses unchanged.", "DELETE /v1/session gets the status %s.", res.Status)
	case at.Scheme == "https" && !strings.Contains(strings.ToLower(res.Header.Get("Set-Cookie")), "; secure"):
		c.say(Note, "no_forwarded_proto", "Make the proxy set X-Forwarded-Proto to https.",
			"hark does not know that browsers use TLS: its cookies are not Secure, and browsers may send them over plain HTTP, too.")
	}
	return true
}

// saysSite reports whether browsers send Sec-Fetch-Site, which hark prefers to Host: they do over HTTPS and to this machine (Fetch
// Metadata, section 2).
func saysSite(at *url.URL) bool {
	name := at.Hostname()
	ip, err := netip.ParseAddr(name)
	return at.Scheme == "https" || name == "localhost" || strings.HasSuffix(name, ".localhost") || err == nil && ip.IsLoopback()
}
