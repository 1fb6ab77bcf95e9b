package notifier

import (
	"net/http"
	"net/netip"
	"strings"

	"github.com/gin-gonic/gin"
)

// With [Options.Naming] anybody can sign in with a name, so only programs on this machine may connect. A loopback
// listener keeps other machines out, but not the web pages that a browser on this machine shows: a page can make the
// name of its server resolve to 127.0.0.1 (DNS rebinding), and then read all responses. The browser still sends that
// name as Host. A proxy on this machine lets anybody in, too.
var (
	errNotLocal = newProblem(http.StatusMisdirectedRequest, "host_not_local",
		"No key is configured, so this server accepts only localhost as its name; use http://localhost, or set --jwt-secret-file or --jwks.")
	errOperators = newProblem(http.StatusMisdirectedRequest, "host_not_local",
		"This address accepts only localhost as its name; use localhost, or let hark listen on another address than a loopback one.")
	errProxied = newProblem(http.StatusForbidden, "proxied",
		"No key is configured, so this server refuses requests through a proxy; connect directly, or set --jwt-secret-file or --jwks.")
)

// local refuses requests that do not come directly from this machine, if [Options.Naming] is set.
func (n *Notifier) local(c *gin.Context) {
	if n.naming == nil {
		return
	}
	if p := checkLocal(c.Request); p != nil {
		c.Header("Connection", "close") // a browser must not reuse the connection (RFC 9110, section 15.5.20)
		n.fail(c, p)
	}
}

// Local returns a handler that refuses the requests which a [Notifier] with [Options.Naming] refuses, and passes others
// to next.
func Local(next http.Handler) http.Handler { return guard(next, checkLocal) }

// LocalHost returns a handler that refuses requests without a loopback name as Host, and passes others to next. It is
// for operators' endpoints on a loopback address.
func LocalHost(next http.Handler) http.Handler {
	return guard(next, func(r *http.Request) *problem {
		if !isLocalHost(r.Host) {
			return errOperators
		}
		return nil
	})
}

func guard(next http.Handler, check func(*http.Request) *problem) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p := check(r); p != nil {
			w.Header().Set("Connection", "close")
			p.write(w)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func checkLocal(r *http.Request) *problem {
	if !isLocalHost(r.Host) {
		return errNotLocal
	}
	// With HTTP/1 net/http removes Host from the header; with HTTP/2 there may be one beside :authority.
	for _, host := range r.Header["Host"] {
		if !isLocalHost(host) {
			return errNotLocal
		}
	}
	// Clients send a whole URL to proxies (RFC 9112, section 3.2.2). net/http drops Host then.
	if r.URL.Host != "" && r.ProtoMajor < 2 {
		return errProxied
	}
	for name := range r.Header {
		if isProxyHeader(name) {
			return errProxied
		}
	}
	return nil
}

// isLocalHost reports whether a Host header names this machine: localhost and the names below it, which resolve to
// loopback addresses (RFC 6761, section 6.3), and loopback addresses in their usual form. Browsers send other forms,
// such as 127.1 or 0x7f.1, as 127.0.0.1 (WHATWG URL, section 3.5), so other forms are refused.
func isLocalHost(host string) bool {
	if rest, ok := strings.CutPrefix(host, "["); ok {
		literal, port, ok := strings.Cut(rest, "]")
		ip, err := netip.ParseAddr(literal)
		return ok && err == nil && ip.Is6() && ip.Zone() == "" && ip.Unmap().IsLoopback() && (port == "" || port[0] == ':' && isDigits(port[1:]))
	}
	name, port, _ := strings.Cut(host, ":")
	if !isDigits(port) {
		return false
	}
	if ip, err := netip.ParseAddr(name); err == nil {
		return ip.IsLoopback()
	}
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if name == "localhost" {
		return true
	}
	below, ok := strings.CutSuffix(name, ".localhost")
	if !ok {
		return false
	}
	for label := range strings.SplitSeq(below, ".") {
		if label == "" || strings.ContainsFunc(label, func(r rune) bool { return !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' || r == '_') }) {
			return false
		}
	}
	return true
}

func isDigits(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < '0' || r > '9' })
}

// proxyHeaders are headers that only proxies, tunnels and content delivery networks add, in the form of
// [http.CanonicalHeaderKey]. Those that begin with X-Forwarded are further ones.
var proxyHeaders = map[string]bool{
	"Forwarded": true, "Via": true, "X-Real-Ip": true, "X-Client-Ip": true, "X-Cluster-Client-Ip": true, "X-Proxyuser-Ip": true,
	"X-Original-Forwarded-For": true, "X-Original-Host": true, "X-Envoy-External-Address": true, "True-Client-Ip": true, "Client-Ip": true,
	"Cf-Connecting-Ip": true, "Cf-Ray": true, "Fastly-Client-Ip": true, "Fly-Client-Ip": true, "Cdn-Loop": true,
	"Proxy-Authorization": true, "Proxy-Connection": true,
}

func isProxyHeader(name string) bool {
	return proxyHeaders[name] || strings.HasPrefix(name, "X-Forwarded")
}
