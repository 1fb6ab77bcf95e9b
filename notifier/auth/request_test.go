package auth_test

import (
	"crypto/tls"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/hark-jobs/hark/notifier/auth"
)

func request(method string, header ...string) *http.Request {
	r := httptest.NewRequest(method, "http://hark.example.com:4280/v1/jobs", nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	return r
}

func TestFromRequest(t *testing.T) {
	for name, c := range map[string]struct {
		header     []string
		token      string
		fromCookie bool
	}{
		"nothing":          {nil, "", false},
		"bearer":           {[]string{"Authorization", "Bearer abc"}, "abc", false},
		"case and space":   {[]string{"Authorization", "bEARER   abc "}, "abc", false},
		"cookie":           {[]string{"Cookie", "a=b; hark_token=abc"}, "abc", true},
		"bearer is first":  {[]string{"Authorization", "Bearer abc", "Cookie", "hark_token=def"}, "abc", false},
		"empty bearer":     {[]string{"Authorization", "Bearer ", "Cookie", "hark_token=def"}, "", false},
		"a proxy's basic":  {[]string{"Authorization", "Basic YTpi", "Cookie", "hark_token=def"}, "def", true},
		"basic alone":      {[]string{"Authorization", "Basic YTpi"}, "", false},
		"empty cookie":     {[]string{"Cookie", "hark_token="}, "", false},
		"not quite bearer": {[]string{"Authorization", "Bearerabc"}, "", false},
	} {
		token, fromCookie := auth.FromRequest(request("GET", c.header...))
		if token != c.token || fromCookie != c.fromCookie {
			t.Errorf("%s: got %q, %v, want %q, %v", name, token, fromCookie, c.token, c.fromCookie)
		}
	}
}

func TestCookies(t *testing.T) {
	ana := auth.Identity{User: "ana", ExpiresAt: time.Now().Add(time.Hour)}
	overTLS := request("POST")
	overTLS.TLS = &tls.ConnectionState{}
	for name, c := range map[string]struct {
		r      *http.Request
		secure bool
	}{
		"plain":        {request("POST"), false},
		"TLS":          {overTLS, true},
		"behind TLS":   {request("POST", "X-Forwarded-Proto", "HTTPS, http"), true},
		"behind plain": {request("POST", "X-Forwarded-Proto", "http, https"), false},
	} {
		w := httptest.NewRecorder()
		if err := auth.SetCookie(w, c.r, "abc", ana); err != nil {
			t.Fatal(err)
		}
		set := cookies(t, w)
		w = httptest.NewRecorder()
		auth.ClearCookie(w, c.r)
		cleared := cookies(t, w)
		// With another route in a new version users would move to other notifiers.
		for cookie, value := range map[string]string{"hark_token": "abc", "hark_route": "24d4b96f"} {
			if got := set[cookie]; got.Value != value || got.Path != "" || got.Domain != "" || !got.HttpOnly ||
				got.SameSite != http.SameSiteLaxMode || got.Secure != c.secure || got.MaxAge < 3590 || got.MaxAge > 3600 {
				t.Errorf("%s: got %v", name, got)
			}
			if got := cleared[cookie]; got.MaxAge != -1 || got.Value != "" || got.Path != "" || got.Secure != c.secure {
				t.Errorf("%s: cleared by %v", name, got)
			}
		}
	}
	w := httptest.NewRecorder()
	over := auth.Identity{User: "ana", ExpiresAt: time.Now().Add(-time.Second)}
	if err := auth.SetCookie(w, request("POST"), "abc", over); err != nil {
		t.Fatal(err)
	}
	for name, got := range cookies(t, w) {
		if got.MaxAge != 1 {
			t.Errorf("%s of a token in its last seconds: %v", name, got)
		}
	}
	w = httptest.NewRecorder()
	if err := auth.SetCookie(w, request("POST"), strings.Repeat("a", 4000), ana); err == nil || len(w.Header()) > 0 {
		t.Errorf("a token too long for a cookie: %v, %v", err, w.Header())
	}
}

// cookies returns the two cookies of a response, by name.
func cookies(t *testing.T, w *httptest.ResponseRecorder) map[string]*http.Cookie {
	t.Helper()
	all := w.Result().Cookies()
	byName := make(map[string]*http.Cookie)
	for _, c := range all {
		byName[c.Name] = c
	}
	if len(all) != 2 || byName["hark_token"] == nil || byName["hark_route"] == nil {
		t.Fatalf("cookies: %v", all)
	}
	return byName
}

func TestOriginsCheck(t *testing.T) {
	origins, err := auth.NewOrigins([]string{"https://App.example.com:443", "http://localhost:3000/"})
	if err != nil {
		t.Fatal(err)
	}
	const site, origin = "Sec-Fetch-Site", "Origin"
	for name, c := range map[string]struct {
		method string
		header []string
		want   string
	}{
		"GET":                    {"GET", []string{site, "cross-site", origin, "https://evil.example"}, ""},
		"HEAD":                   {"HEAD", nil, ""},
		"OPTIONS":                {"OPTIONS", nil, ""},
		"same origin":            {"POST", []string{site, "same-origin", origin, "http://hark.example.com:4280"}, ""},
		"same origin, old":       {"POST", []string{origin, "http://hark.example.com:4280"}, ""},
		"same host behind TLS":   {"DELETE", []string{origin, "https://hark.example.com:4280"}, ""},
		"typed by the user":      {"POST", []string{site, "none"}, ""},
		"proxy changed the host": {"POST", []string{site, "same-origin", origin, "https://www.example.com"}, ""},
		"allowed":                {"POST", []string{site, "cross-site", origin, "https://app.example.com"}, ""},
		"allowed, old":           {"POST", []string{origin, "http://localhost:3000"}, ""},
		"neither":                {"POST", nil, auth.CodeOriginMissing},
		"another method":         {"PROPFIND", nil, auth.CodeOriginMissing},
		"foreign":                {"POST", []string{site, "cross-site", origin, "https://evil.example"}, auth.CodeOriginForbidden},
		"foreign, old":           {"POST", []string{origin, "https://evil.example"}, auth.CodeOriginForbidden},
		"foreign, says nothing":  {"POST", []string{site, "cross-site"}, auth.CodeOriginForbidden},
		"sibling":                {"POST", []string{site, "same-site", origin, "http://evil.example.com:4280"}, auth.CodeOriginForbidden},
		"another port":           {"POST", []string{origin, "http://hark.example.com:4281"}, auth.CodeOriginForbidden},
		"allowed, plain":         {"POST", []string{origin, "http://app.example.com"}, auth.CodeOriginForbidden},
		"longer":                 {"POST", []string{origin, "https://app.example.com.evil.example"}, auth.CodeOriginForbidden},
		"null":                   {"POST", []string{origin, "null"}, auth.CodeOriginForbidden},
		"null, same origin":      {"POST", []string{site, "same-origin", origin, "null"}, auth.CodeOriginForbidden},
		"garbage":                {"POST", []string{origin, "://"}, auth.CodeOriginForbidden},
		"two":                    {"POST", []string{origin, "http://hark.example.com:4280", origin, "https://evil.example"}, auth.CodeOriginForbidden},
		"made up":                {"POST", []string{site, "SAME-ORIGIN", origin, "https://evil.example"}, auth.CodeOriginForbidden},
	} {
		got := ""
		if err := origins.Check(request(c.method, c.header...)); err != nil {
			got = code(t, err, "")
		}
		if got != c.want {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
	noHost := request("POST", origin, "null")
	noHost.Host = ""
	if err := origins.Check(noHost); err == nil {
		t.Error("null passed for a request without a host")
	}
}

// The refusal says that a proxy may have changed Host, which no list of origins can fix.
func TestRefusedOriginSaysWhatToDo(t *testing.T) {
	origins, err := auth.NewOrigins(nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		header []string
		want   []string
	}{
		"a proxy that changes Host": {[]string{"Origin", "http://hark.example.com:8080"},
			[]string{`from "http://hark.example.com:8080"`, `host "hark.example.com:4280"`, "Host $http_host", "--allow-origin"}},
		"another site, says the browser": {[]string{"Origin", "https://app.example.com", "Sec-Fetch-Site", "cross-site"}, []string{"--allow-origin"}},
	} {
		refused, _ := errors.AsType[*auth.Error](origins.Check(request("POST", c.header...)))
		if refused == nil {
			t.Errorf("%s: passed", name)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(refused.Detail, want) {
				t.Errorf("%s: %q has no %q", name, refused.Detail, want)
			}
		}
		if strings.Contains(refused.Detail, "Host") != strings.Contains(strings.Join(c.want, " "), "Host") {
			t.Errorf("%s: %q", name, refused.Detail)
		}
	}
}

func TestNewOriginsRefuses(t *testing.T) {
	for _, origin := range []string{
		"", "*", "null", "app.example.com", "https://", "https://*.example.com", "https://app.example.com/path",
		"ftp://app.example.com", "https://user@app.example.com", "https://app.example.com?x", "javascript:alert(1)",
	} {
		if _, err := auth.NewOrigins([]string{origin}); err == nil {
			t.Errorf("accepted %q", origin)
		}
	}
}

func TestCORS(t *testing.T) {
	origins, err := auth.NewOrigins([]string{"https://app.example.com"})
	if err != nil {
		t.Fatal(err)
	}
	const ask = "Access-Control-Request-Method"
	for name, c := range map[string]struct {
		r         *http.Request
		allowed   bool
		preflight bool
	}{
		"own page":             {request("GET"), false, false},
		"allowed":              {request("GET", "Origin", "https://app.example.com"), true, false},
		"foreign":              {request("GET", "Origin", "https://evil.example"), false, false},
		"null":                 {request("GET", "Origin", "null"), false, false},
		"preflight":            {request("OPTIONS", "Origin", "https://app.example.com", ask, "POST"), true, true},
		"preflight of foreign": {request("OPTIONS", "Origin", "https://evil.example", ask, "POST"), false, true},
		"options":              {request("OPTIONS", "Origin", "https://app.example.com"), true, false},
	} {
		h := make(http.Header)
		preflight := origins.CORS(h, c.r)
		got, credentials := h.Get("Access-Control-Allow-Origin"), h.Get("Access-Control-Allow-Credentials")
		if preflight != c.preflight || c.allowed != (got == c.r.Header.Get("Origin") && got != "") || c.allowed != (credentials == "true") {
			t.Errorf("%s: preflight %v, headers %v", name, preflight, h)
		}
		if got == "*" || h.Get("Vary") != "Origin" {
			t.Errorf("%s: headers %v", name, h)
		}
		if methods := h.Get("Access-Control-Allow-Methods") != ""; methods != (c.allowed && c.preflight) {
			t.Errorf("%s: headers %v", name, h)
		}
	}
}
