package notifier_test

import (
	"encoding/base64"
	"encoding/json"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/hark-jobs/hark/harktest"
	"github.com/hark-jobs/hark/internal/polltest"
)

// jti returns the id of a token.
func jti(t testing.TB, token string) string {
	t.Helper()
	data, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	var claims struct{ JTI string }
	if err == nil {
		err = json.Unmarshal(data, &claims)
	}
	if err != nil || claims.JTI == "" {
		t.Fatalf("no jti: %v", err)
	}
	return claims.JTI
}

func bearer(token string) []string { return []string{"Authorization", "Bearer " + token} }

// Revoking a user invalidates all tokens so far: in the header, the cookie, a ticket and on open streams. A new token is
// accepted, and other users are not affected.
func TestRevokeUser(t *testing.T) {
	s := start(t)
	admin := s.as("root", "admin")
	token, bob := s.Token("ana"), s.Token("bob")
	var ticket struct{ Ticket string }
	s.call("POST", "/v1/stream/ticket", "", bearer(token)...).into(&ticket)
	s.call("GET", "/v1/jobs", "", bearer(token)...).want(200) // the verifier caches it
	first, _ := s.listen("/v1/stream", bearer(token)...)
	second, _ := s.listen("/v1/stream", "Cookie", "hark_token="+token)
	others, _ := s.listen("/v1/stream", bearer(bob)...)

	var done struct {
		User, JTI string
		RevokedAt time.Time `json:"revoked_at"`
	}
	s.call("POST", "/v1/revocations", `{"user":"ana"}`, admin...).want(201).into(&done)
	if done.User != "ana" || done.JTI != "" || time.Since(done.RevokedAt) > time.Minute {
		t.Errorf("%+v", done)
	}
	for _, header := range [][]string{bearer(token), {"Cookie", "hark_token=" + token}} {
		for _, path := range []string{"/v1/jobs", "/v1/session", "/v1/stream", "/v1/notifications", "/v1/kinds"} {
			s.call("GET", path, "", header...).problem(401, "token_revoked")
		}
	}
	s.call("POST", "/v1/session", "", bearer(token)...).problem(401, "token_revoked")
	s.call("GET", "/v1/stream?ticket="+ticket.Ticket, "").problem(401, "token_revoked")
	for _, st := range []*stream{first, second} {
		if bye := st.until("bye"); !strings.Contains(bye.data, `"token_revoked"`) {
			t.Errorf("%+v", bye)
		}
	}
	s.call("GET", "/v1/jobs", "", bearer(bob)...).want(200)
	s.notify(`{"user":"bob","type":"test","title":"still here"}`)
	if n := others.until("notification"); !strings.Contains(n.data, "still here") {
		t.Errorf("%+v", n)
	}
	var renewed string
	polltest.Until(t, "a new token is accepted", func() bool { // iat has whole seconds, and must be later than the revocation
		renewed = s.Token("ana")
		return s.call("GET", "/v1/jobs", "", bearer(renewed)...).StatusCode == 200
	})
	s.listen("/v1/stream", bearer(renewed)...)

	// A restart changes nothing.
	s.Restart()
	s.call("GET", "/v1/jobs", "", bearer(token)...).problem(401, "token_revoked")
	s.call("GET", "/v1/jobs", "", bearer(renewed)...).want(200)
}

// Revoking a token by its jti leaves the user's other tokens valid.
func TestRevokeToken(t *testing.T) {
	s := start(t, harktest.Secret(secret))
	admin := s.as("root", "admin")
	one, other := s.Token("ana"), s.Token("ana")
	ending, _ := s.listen("/v1/stream", bearer(one)...)
	lasting, _ := s.listen("/v1/stream", bearer(other)...)
	body, err := json.Marshal(object{"jti": jti(t, one)})
	if err != nil {
		t.Fatal(err)
	}
	s.call("POST", "/v1/revocations", string(body), admin...).want(201)
	s.call("GET", "/v1/jobs", "", bearer(one)...).problem(401, "token_revoked")
	s.call("GET", "/v1/jobs", "", bearer(other)...).want(200)
	if bye := ending.until("bye"); !strings.Contains(bye.data, `"token_revoked"`) {
		t.Errorf("%+v", bye)
	}
	s.notify(`{"user":"ana","type":"test","title":"still here"}`)
	if n := lasting.until("notification"); !strings.Contains(n.data, "still here") {
		t.Errorf("%+v", n)
	}
	query := "?jti=" + url.QueryEscape(jti(t, one))
	var page struct {
		Revocations []struct{ User, JTI string }
		More        bool
	}
	s.call("GET", "/v1/revocations", "", admin...).into(&page)
	if len(page.Revocations) != 1 || page.Revocations[0].JTI != jti(t, one) || page.More {
		t.Errorf("%+v", page)
	}
	s.call("GET", "/v1/revocations?user=ana", "", admin...).into(&page)
	if len(page.Revocations) != 0 {
		t.Errorf("%+v", page)
	}
	s.call("DELETE", "/v1/revocations"+query, "", admin...).want(204)
	s.call("DELETE", "/v1/revocations"+query, "", admin...).problem(404, "revocation_not_found")
	s.call("GET", "/v1/jobs", "", bearer(one)...).want(200)
}

// Callers without the scope admin, and invalid revocations, are refused.
func TestRevocationsRefuse(t *testing.T) {
	s := start(t)
	admin := s.as("root", "admin")
	for _, method := range []string{"GET", "POST", "DELETE"} {
		s.call(method, "/v1/revocations", "", s.as("ana", "notify")...).problem(403, "scope_missing")
		s.call(method, "/v1/revocations", "").problem(401, "token_missing")
	}
	for _, body := range []string{``, `{}`, `{"user":""}`, `{"user":"ana","jti":"x"}`, `{"user":"_all"}`, `{"jti":"` + strings.Repeat("x", 1001) + `"}`, `{"user":"\ud800"}`} {
		s.call("POST", "/v1/revocations", body, admin...).problem(400, "invalid_request")
	}
	s.call("POST", "/v1/revocations", `{"who":"ana"}`, admin...).problem(400, "field_unknown")
	s.call("POST", "/v1/revocations", `{"User":"ana"}`, admin...).problem(400, "field_unknown")
	s.call("POST", "/v1/revocations", `{"user":"ana","user":"bob"}`, admin...).problem(400, "field_duplicate")
	s.call("DELETE", "/v1/revocations", "", admin...).problem(400, "invalid_request")
	s.call("DELETE", "/v1/revocations?user=ana", "", admin...).problem(404, "revocation_not_found")
	if a := s.call("GET", "/v1/revocations", "", admin...).want(200); string(a.body) != `{"revocations":[]}` {
		t.Errorf("%s", a.body)
	}
}

// Tokens with configured names of claims and scopes are accepted, and only as configured.
func TestConfiguredTokens(t *testing.T) {
	s := start(t, harktest.Secret(secret), harktest.Tokens(harktest.TokenOptions{
		Issuer: "https://id.example.com", Audience: []string{"hark", "hark-2"}, UserClaim: "email", ScopeMap: map[string]string{"hark:admin": "admin"}, MaxAge: 2 * time.Hour,
	}))
	s.call("GET", "/v1/revocations", "", s.as("ana", "admin")...).want(200) // harktest makes such tokens
	now := time.Now().Unix()
	claims := func(changes object) object {
		c := object{"iss": "https://id.example.com", "aud": "hark-2", "sub": "1", "email": "ana", "iat": now, "exp": now + 600, "scope": "hark:admin"}
		for name, value := range changes {
			c[name] = value
		}
		return c
	}
	for name, c := range map[string]struct {
		changes object
		status  int
	}{
		"good":           {nil, 200},
		"plain admin":    {object{"scope": "admin"}, 403},
		"another issuer": {object{"iss": "https://id.example.org"}, 401},
		"another aud":    {object{"aud": "hark-3"}, 401},
		"no email":       {object{"email": nil}, 401},
		"a day":          {object{"exp": now + 86400}, 401},
	} {
		a := s.call("GET", "/v1/revocations", "", bearer(sign(t, secret, object{"alg": "HS256"}, claims(c.changes)))...)
		if a.StatusCode != c.status {
			t.Errorf("%s: %s %s", name, a.Status, a.body)
		}
	}
}
