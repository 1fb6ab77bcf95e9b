package notifier_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/hark-jobs/hark/harktest"
)

const secret = "0123456789abcdef0123456789abcdef"

// sign signs a token with any header and claims.
func sign(t testing.TB, key string, header, claims map[string]any) string {
	t.Helper()
	part := func(v any) string {
		data, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(data)
	}
	text := part(header) + "." + part(claims)
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write([]byte(text))
	return text + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

type object = map[string]any

func TestTokens(t *testing.T) {
	s := start(t, harktest.Secret(secret))
	in := func(d time.Duration) int64 { return time.Now().Add(d).Unix() }
	good, hs := object{"sub": "ana", "exp": in(time.Hour)}, object{"alg": "HS256", "typ": "JWT"}
	signed := sign(t, secret, hs, good)
	unsigned := func(alg string) string {
		token := sign(t, secret, object{"alg": alg}, good)
		return token[:strings.LastIndex(token, ".")+1]
	}
	for name, c := range map[string]struct{ token, code string }{
		"good":            {signed, ""},
		"none":            {"", "token_missing"},
		"a word":          {"x", "token_invalid"},
		"expired":         {sign(t, secret, hs, object{"sub": "ana", "exp": in(-time.Hour)}), "token_expired"},
		"no exp":          {sign(t, secret, hs, object{"sub": "ana"}), "token_invalid"},
		"not yet":         {sign(t, secret, hs, object{"sub": "ana", "exp": in(time.Hour), "nbf": in(time.Minute)}), "token_invalid"},
		"no sub":          {sign(t, secret, hs, object{"exp": in(time.Hour)}), "token_invalid"},
		"sub _all":        {sign(t, secret, hs, object{"sub": "_all", "exp": in(time.Hour)}), "token_invalid"},
		"another key":     {sign(t, secret+"x", hs, good), "token_invalid"},
		"expired, forged": {sign(t, "x", hs, object{"sub": "ana", "exp": in(-time.Hour)}), "token_invalid"},
		"alg none":        {unsigned("none"), "token_invalid"},
		"alg None":        {unsigned("None"), "token_invalid"},
		"alg NONE":        {unsigned("NONE"), "token_invalid"},
		"alg empty":       {unsigned(""), "token_invalid"},
		"alg none signed": {sign(t, secret, object{"alg": "none"}, good), "token_invalid"},
		"alg RS256":       {sign(t, secret, object{"alg": "RS256"}, good), "token_invalid"},
		"cut off":         {signed[:len(signed)-2], "token_invalid"},
		"no signature":    {signed[:strings.LastIndex(signed, ".")+1], "token_invalid"},
		"too long":        {signed + strings.Repeat("x", 9000), "token_invalid"},
	} {
		for _, header := range [][]string{{"Authorization", "Bearer " + c.token}, {"Cookie", "hark_token=" + c.token}} {
			a := s.call("GET", "/v1/session", "", header...)
			if c.code == "" {
				a.want(200)
			} else if p := a.problem(401, c.code); p.SignIn != "token" {
				t.Errorf("%s: sign_in is %q, want token", name, p.SignIn)
			}
			a = s.call("GET", "/v1/jobs", "", header...)
			if (a.StatusCode == 200) != (c.code == "") {
				t.Errorf("%s: %s", name, a.Status)
			}
		}
	}
	s.call("GET", "/v1/jobs", "", "Authorization", "Basic YW5hOng=").problem(401, "token_missing")
	s.call("POST", "/v1/session", `{"user":"ana"}`).problem(403, "naming_disabled")

	// A token that expires while a stream is open, and one that expires before its ticket is used. The verifier
	// tolerates a clock difference of five seconds, so both are accepted and expire without delay.
	over := []string{"Authorization", "Bearer " + sign(t, secret, hs, object{"sub": "ana", "exp": in(-2 * time.Second)})}
	var ticket struct{ Ticket string }
	s.call("POST", "/v1/stream/ticket", "", over...).into(&ticket)
	s.call("GET", "/v1/stream?ticket="+ticket.Ticket, "").problem(401, "token_expired")
	st, _ := s.listen("/v1/stream", over...)
	if bye := st.until("bye"); !strings.Contains(bye.data, `"token_expired"`) {
		t.Errorf("%+v", bye)
	}
}

func (a answer) cookie() *http.Cookie { return a.cookieNamed("hark_token") }

func (a answer) cookieNamed(name string) *http.Cookie {
	for _, c := range a.Cookies() {
		if c.Name == name {
			return c
		}
	}
	return &http.Cookie{}
}

func TestSession(t *testing.T) {
	s := start(t)
	if p := s.call("GET", "/v1/session", "").problem(401, "token_missing"); p.SignIn != "name" {
		t.Errorf("sign_in is %q, want name", p.SignIn)
	}
	type session struct {
		User, Scope string
		ExpiresAt   time.Time `json:"expires_at"`
		SignIn      string    `json:"sign_in"`
	}
	var named session
	a := s.call("POST", "/v1/session", `{"user":"ana maría"}`, "Origin", s.URL)
	a.into(&named)
	c := a.cookie()
	if named.User != "ana maría" || named.Scope != "" || named.SignIn != "name" || time.Until(named.ExpiresAt) < 24*time.Hour {
		t.Errorf("%+v", named)
	}
	if !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Path != "" || c.Secure || c.MaxAge < 86400 {
		t.Errorf("%+v", c)
	}
	cookie := []string{"Cookie", "hark_token=" + c.Value}
	s.call("GET", "/v1/session", "", cookie...).want(200)
	s.call("POST", "/v1/session", `{"user":"eve"}`, "Origin", "https://evil.example").problem(403, "origin_forbidden")

	// A bearer token is stored in the cookie, and renews it.
	var bearer session
	a = s.call("POST", "/v1/session", "", append(s.as("bob", "notify"), cookie...)...)
	if a.into(&bearer); bearer.User != "bob" || bearer.Scope != "notify" || a.cookie().Value != s.Token("bob", "notify") && a.cookie().Value == "" {
		t.Errorf("%+v %v", bearer, a.cookie())
	}
	s.call("POST", "/v1/session", "", "Authorization", "Bearer x").problem(401, "token_invalid")
	s.call("POST", "/v1/session", "", "Authorization", "Bearer "+strings.Repeat("x", 4000)).problem(401, "token_invalid")

	s.call("DELETE", "/v1/session", "", append(cookie, "Origin", "https://evil.example")...).problem(403, "origin_forbidden")
	if c := s.call("DELETE", "/v1/session", "", append(cookie, "Origin", s.URL)...).want(204).cookie(); c.MaxAge != -1 || c.Value != "" {
		t.Errorf("%+v", c)
	}
	s.call("DELETE", "/v1/session", "").want(204)
}

// Behind a proxy that terminates TLS the cookie is Secure.
func TestSessionBehindTLS(t *testing.T) {
	s := start(t, harktest.Secret(strings.Repeat("k", 32)))
	if !s.call("POST", "/v1/session", "", append(s.as("ana"), "X-Forwarded-Proto", "https")...).want(200).cookie().Secure {
		t.Error("not Secure behind TLS")
	}
}

// All devices of a user have the same route. Only proxies use it; hark ignores it.
func TestRouteCookie(t *testing.T) {
	s := start(t)
	named := s.call("POST", "/v1/session", `{"user":"ana"}`, "Origin", s.URL).want(200)
	bearer := s.call("POST", "/v1/session", "", s.as("ana", "notify")...).want(200)
	bob := s.call("POST", "/v1/session", "", s.as("bob")...).want(200).cookieNamed("hark_route")
	ana := named.cookieNamed("hark_route")
	if named.cookie().Value == bearer.cookie().Value {
		t.Fatal("two sessions have the same token")
	}
	if !regexp.MustCompile("^[0-9a-f]{8}$").MatchString(ana.Value) || bearer.cookieNamed("hark_route").Value != ana.Value || bob.Value == ana.Value {
		t.Errorf("ana: %v, and with another token %v; bob: %v", ana, bearer.cookieNamed("hark_route"), bob)
	}
	if token := named.cookie(); ana.MaxAge != token.MaxAge || !ana.HttpOnly {
		t.Errorf("%v beside %v", ana, token)
	}
	if a := s.call("POST", "/v1/session", "", "Authorization", "Bearer x"); a.cookieNamed("hark_route").Name != "" {
		t.Errorf("a refused token got a route: %v", a.Cookies())
	}

	// A forged route neither changes the user nor signs anybody in.
	var session struct{ User string }
	s.call("GET", "/v1/session", "", "Cookie", "hark_route="+bob.Value+"; hark_token="+named.cookie().Value).into(&session)
	if session.User != "ana" {
		t.Errorf("with bob's route ana is %q", session.User)
	}
	s.call("GET", "/v1/session", "", "Cookie", "hark_route="+ana.Value).problem(401, "token_missing")
	forged := s.call("POST", "/v1/session", "", append(s.as("ana"), "Cookie", "hark_route="+bob.Value)...).want(200)
	if got := forged.cookieNamed("hark_route"); got.Value != ana.Value {
		t.Errorf("ana signed in with bob's route and kept it: %v", got)
	}

	out := s.call("DELETE", "/v1/session", "", "Cookie", "hark_route="+ana.Value+"; hark_token="+named.cookie().Value, "Origin", s.URL).want(204)
	if c := out.cookieNamed("hark_route"); c.Name == "" || c.MaxAge != -1 || c.Value != "" {
		t.Errorf("after signing out: %v", c)
	}
}

func TestForeignOrigins(t *testing.T) {
	s := start(t, harktest.AllowOrigins("https://app.example.com"))
	cookie := "hark_token=" + s.Token("ana", "notify")
	for _, c := range []struct {
		origin, site, code string
	}{
		{"", "", "origin_missing"},
		{"https://evil.example", "", "origin_forbidden"},
		{"https://evil.example", "cross-site", "origin_forbidden"},
		{"https://app.example.com.evil.example", "cross-site", "origin_forbidden"},
		{"null", "", "origin_forbidden"},
		{"", "same-site", "origin_forbidden"},
		{"", "same-origin", ""},
		{s.URL, "", ""},
		{"https://app.example.com", "cross-site", ""},
	} {
		headers := []string{"Cookie", cookie}
		if c.origin != "" {
			headers = append(headers, "Origin", c.origin)
		}
		if c.site != "" {
			headers = append(headers, "Sec-Fetch-Site", c.site)
		}
		for path, body := range map[string]string{"/v1/jobs": nap, "/v1/notifications/read": "{}", "/v1/notifications": `{"user":"x","type":"x","title":"x"}`, "/v1/stream/ticket": ""} {
			a := s.call("POST", path, body, headers...)
			if c.code != "" {
				a.problem(403, c.code)
			} else if a.StatusCode/100 != 2 {
				t.Errorf("%+v %s: %s", c, path, a.body)
			}
		}
		// The browser refuses to read the response without this header.
		a := s.call("GET", "/v1/jobs", "", headers...).want(200)
		if got := a.Header.Get("Access-Control-Allow-Origin"); got != "" && got != "https://app.example.com" || (got == "") == (c.origin == "https://app.example.com") {
			t.Errorf("%+v may read: %q", c, got)
		}
	}
	pre := s.call("OPTIONS", "/v1/jobs", "", "Origin", "https://app.example.com", "Access-Control-Request-Method", "POST").want(204)
	if pre.Header.Get("Access-Control-Allow-Credentials") != "true" || !strings.Contains(pre.Header.Get("Access-Control-Allow-Headers"), "Idempotency-Key") {
		t.Errorf("%v", pre.Header)
	}
	if pre := s.call("OPTIONS", "/v1/jobs", "", "Origin", "https://evil.example", "Access-Control-Request-Method", "POST"); pre.Header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("%v", pre.Header)
	}
}
