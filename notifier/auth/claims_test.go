package auth_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/hark-jobs/hark/notifier/auth"
)

// signText signs an HS256 token with the exact text of a header and claims.
func signText(t testing.TB, header, claims string) string {
	t.Helper()
	token := raw(header, claims, "")
	token = token[:len(token)-1]
	signature, err := jwt.SigningMethodHS256.Sign(token, secret)
	if err != nil {
		t.Fatal(err)
	}
	last := raw("", "", string(signature))
	return token + "." + last[2:]
}

const hs256 = `{"alg":"HS256","typ":"JWT"}`

// until is the end of the text of a token's claims.
func until() string {
	return fmt.Sprintf(`"iat":%d,"exp":%d}`, time.Now().Unix(), time.Now().Add(time.Hour).Unix())
}

// TestClaimsMatchByExactName checks that names of claims are case-sensitive (RFC 7519, section 4).
func TestClaimsMatchByExactName(t *testing.T) {
	v := newVerifier(t)
	for name, c := range map[string]struct{ claims, user, scope string }{
		"SUB behind sub":    {`{"sub":"ana","SUB":"bob",`, "ana", ""},
		"SUB before sub":    {`{"SUB":"bob","sub":"ana",`, "ana", ""},
		"long s":            {`{"sub":"ana","ſub":"bob",`, "ana", ""}, // which folds to s
		"Scope alone":       {`{"sub":"ana","Scope":"admin",`, "ana", ""},
		"Scope and scope":   {`{"sub":"ana","scope":"notify","SCOPE":"admin",`, "ana", "notify"},
		"EXP is no exp":     {`{"sub":"ana","EXP":1,`, "ana", ""},
		"NBF is no nbf":     {`{"sub":"ana","NBF":99999999999,`, "ana", ""},
		"escaped":           {`{"su\u0062":"ana",`, "ana", ""},
		"null is none":      {`{"sub":"ana","scope":null,"nbf":null,"aud":null,"jti":null,`, "ana", ""},
		"colons in strings": {`{"sub":"a:\"b\":\\","x":{"y":[{"z":":"},{"z":":"}]},`, `a:"b":\`, ""},
	} {
		id, err := v.Verify(t.Context(), signText(t, hs256, c.claims+until()))
		if err != nil || id.User != c.user || strings.Join(id.Scope, " ") != c.scope {
			t.Errorf("%s: got %q with %q, %v; want %q with %q", name, id.User, id.Scope, err, c.user, c.scope)
		}
	}
	for name, claims := range map[string]string{
		"SUB alone": `{"SUB":"bob",`, "Sub alone": `{"Sub":"bob",`, "sub null": `{"sub":null,"SUB":"bob",`,
	} {
		token := signText(t, hs256, claims+until())
		wantCode(t, v, token, auth.CodeTokenInvalid)
		_ = name
	}
	strict := newVerifier(t, func(o *auth.Options) { o.Issuer, o.Audience = "https://id.example.com", []string{"hark"} })
	for name, claims := range map[string]string{
		"AUD": `{"sub":"ana","iss":"https://id.example.com","AUD":"hark",`, "ISS": `{"sub":"ana","ISS":"https://id.example.com","aud":"hark",`,
		"Aud beside": `{"sub":"ana","iss":"https://id.example.com","aud":"x","Aud":"hark",`,
	} {
		token := signText(t, hs256, claims+until())
		if _, err := strict.Verify(t.Context(), token); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	wantCode(t, v, signText(t, hs256, `{"sub":"ana","EXP":99999999999}`), auth.CodeTokenInvalid)
}

// TestDuplicateNamesAreRefused checks that a token with duplicate names is refused: in the claims, with any escaping, and in
// the header (RFC 7515, section 4).
func TestDuplicateNamesAreRefused(t *testing.T) {
	v := newVerifier(t)
	for _, claims := range []string{
		`{"sub":"ana","sub":"bob",`, `{"sub":"ana","sub":"ana",`, `{"sub":"ana","s\u0075b":"bob",`, `{"sub":"ana","scope":"notify","scope":"admin",`,
		`{"sub":"ana","x":1,"x":2,`, `{"sub":"ana","exp":1,`, `{"sub":"ana","":1,"":2,`, `{"sub":"ana","org":{"id":1,"id":2},`,
		`{"sub":"ana","orgs":[{"id":1},{"id":1,"id":2}],`, `{"sub":"ana","\ud800":1,"\ud801":2,`, "{\"sub\":\"ana\",\"\xff\":1,\"\xfe\":2,", "{\"sub\":\"ana\",\"x\":\"\xff\",",
	} {
		token := signText(t, hs256, claims+until())
		if _, err := v.Verify(t.Context(), token); err == nil || code(t, err, token) != auth.CodeTokenInvalid {
			t.Errorf("%s: %v", claims, err)
		}
	}
	good := `{"sub":"ana",` + until()
	wantCode(t, v, signText(t, hs256, good), "")
	for _, header := range []string{
		`{"alg":"HS256","alg":"HS256"}`, `{"alg":"none","alg":"HS256"}`, `{"typ":"JOSE","typ":"JWT","alg":"HS256"}`, `{"alg":"HS256","kid":"a","k\u0069d":"b"}`,
		`{"alg":"HS256","x":{"a":1,"a":1}}`, `{"alg":"HS256","crit":["exp"]}`, `{"alg":"HS256","crit":null}`, `{"alg":"HS256","crit":[]}`, `{"ALG":"HS256"}`, "{\"alg\":\"HS256\",\"x\":\"\xff\"}",
	} {
		token := signText(t, header, good)
		if _, err := v.Verify(t.Context(), token); err == nil || code(t, err, token) != auth.CodeTokenInvalid {
			t.Errorf("%s: %v", header, err)
		}
	}
}

// TestScopesAreSplitAtSpacesAlone checks that any character except U+0020 belongs to a name (RFC 6749, section 3.3).
func TestScopesAreSplitAtSpacesAlone(t *testing.T) {
	v := newVerifier(t)
	for scope, want := range map[string][]string{
		"": nil, " ": nil, "admin": {"admin"}, "  notify  admin ": {"notify", "admin"}, "admin admin": {"admin"},
		"x\tadmin": {"x\tadmin"}, "x\nadmin": {"x\nadmin"}, "x\u00a0admin": {"x\u00a0admin"}, "x\u2003admin": {"x\u2003admin"},
		"admin\u0085": {"admin\u0085"}, "x,admin": {"x,admin"}, "Admin": {"Admin"},
	} {
		id, err := v.Verify(t.Context(), signHS(t, secret, nil, claimsFor("ana", map[string]any{"scope": scope})))
		if err != nil || !slices.Equal(id.Scope, want) {
			t.Errorf("%q: got %q, %v, want %q", scope, id.Scope, err, want)
		}
	}
}

// TestMappedScopes checks that a mapped scope is granted by its mapped names alone.
func TestMappedScopes(t *testing.T) {
	scopes := map[string]string{"hark:admin": "admin", "hark.root": "admin"}
	v := newVerifier(t, func(o *auth.Options) { o.Scopes = scopes })
	for scope, want := range map[string]string{
		"hark:admin": "admin", "hark.root hark:admin": "admin", "admin": "", "notify": "notify", "notify admin other": "notify other",
		"hark:notify": "hark:notify", "HARK:ADMIN": "HARK:ADMIN",
	} {
		id, err := v.Verify(t.Context(), signHS(t, secret, nil, claimsFor("ana", map[string]any{"scope": scope})))
		if err != nil || strings.Join(id.Scope, " ") != want {
			t.Errorf("%q: got %q, %v, want %q", scope, id.Scope, err, want)
		}
	}
	swapped := newVerifier(t, func(o *auth.Options) { o.Scopes = map[string]string{"admin": "notify"} })
	id, err := swapped.Verify(t.Context(), signHS(t, secret, nil, claimsFor("ana", map[string]any{"scope": "admin notify"})))
	if err != nil || id.Has("admin") || !id.Has("notify") {
		t.Errorf("admin that means notify: %q, %v", id.Scope, err)
	}
	issuer := must(auth.NewIssuer(auth.IssuerOptions{Secret: secret, Scopes: scopes}))
	token, issued, err := issuer.Issue("ana", []string{"notify", "admin"}, time.Hour)
	if err != nil || !issued.Has("admin") {
		t.Fatalf("issued %+v, %v", issued, err)
	}
	if id, err := v.Verify(t.Context(), token); err != nil || !id.Has("admin") || !id.Has("notify") || id.Claims["scope"] != "notify hark.root" {
		t.Errorf("an issued token: %+v, %v", id, err)
	}
}

func TestUserClaim(t *testing.T) {
	byEmail := func(o *auth.Options) { o.UserClaim = "email" }
	v := newVerifier(t, byEmail)
	id, err := v.Verify(t.Context(), signHS(t, secret, nil, claimsFor("4711", map[string]any{"email": "ana@example.com"})))
	if err != nil || id.User != "ana@example.com" || id.Claims["sub"] != "4711" {
		t.Errorf("got %+v, %v", id, err)
	}
	for name, changes := range map[string]map[string]any{
		"none": {}, "empty": {"email": ""}, "a list": {"email": []string{"ana"}}, "a number": {"email": 7}, "_all": {"email": "_all"}, "EMAIL": {"EMAIL": "ana"},
	} {
		token := signHS(t, secret, nil, claimsFor("ana", changes))
		if _, err := v.Verify(t.Context(), token); err == nil || code(t, err, token) != auth.CodeTokenInvalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	issuer := must(auth.NewIssuer(auth.IssuerOptions{Secret: secret, UserClaim: "email"}))
	token, _, err := issuer.Issue("ana", nil, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if id, err := v.Verify(t.Context(), token); err != nil || id.User != "ana" {
		t.Errorf("an issued token: %+v, %v", id, err)
	}
	for _, claim := range []string{"iss", "exp", "scope", "aud", "jti"} {
		if _, err := auth.New(auth.Options{Secret: secret, UserClaim: claim}); err == nil {
			t.Errorf("%s names the user", claim)
		}
	}
}

// TestIdentityHasAllClaims checks that an identity has all claims of the token, by exact names, with exact numbers.
func TestIdentityHasAllClaims(t *testing.T) {
	v := newVerifier(t)
	text := `{"sub":"ana","jti":"j-1","tenant":12345678901234567890,"Tenant":1,"groups":["a","b"],"org":{"id":1.50},"on":true,"iat":1700000000.75,"exp":9999999999}`
	for range 2 { // the second time from the cache
		id, err := v.Verify(t.Context(), signText(t, hs256, text))
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]any{
			"sub": "ana", "jti": "j-1", "tenant": json.Number("12345678901234567890"), "Tenant": json.Number("1"), "groups": []any{"a", "b"},
			"org": map[string]any{"id": json.Number("1.50")}, "on": true, "iat": json.Number("1700000000.75"), "exp": json.Number("9999999999"),
		}
		if !reflect.DeepEqual(id.Claims, want) || id.ID != "j-1" || !id.IssuedAt.Equal(time.Unix(1700000000, 0)) {
			t.Errorf("got %+v", id)
		}
	}
	wantCode(t, v, signText(t, hs256, `{"sub":"ana","jti":7,`+until()), auth.CodeTokenInvalid)
}

// TestMaxTokenAge checks that a token with a longer lifetime, or without iat, is refused.
func TestMaxTokenAge(t *testing.T) {
	v := newVerifier(t, func(o *auth.Options) { o.MaxAge = time.Hour })
	now := time.Now().Unix()
	for name, c := range map[string]struct {
		iat, exp any
		want     string
	}{
		"an hour":                   {now, now + 3600, ""},
		"a second more":             {now, now + 3601, auth.CodeTokenInvalid},
		"a fraction more":           {now, float64(now) + 3600.5, auth.CodeTokenInvalid},
		"no iat":                    {nil, now + 60, auth.CodeTokenInvalid},
		"iat 0":                     {0, now + 60, auth.CodeTokenInvalid},
		"the issuer's clock ahead":  {now + 3, now + 3603, ""},
		"too far ahead":             {now + 60, now + 3660, auth.CodeTokenInvalid},
		"almost over":               {now - 3500, now + 100, ""},
		"over, within the leeway":   {now - 3602, now - 2, ""},
		"over":                      {now - 3660, now - 60, auth.CodeTokenExpired},
		"over, and lived too long":  {now - 7200, now - 60, auth.CodeTokenInvalid},
		"for ever":                  {now, int64(253402300799), auth.CodeTokenInvalid},
		"iat is text":               {"now", now + 60, auth.CodeTokenInvalid},
		"an iat beyond all numbers": {json.RawMessage("1e400"), now + 60, auth.CodeTokenInvalid},
	} {
		token := signHS(t, secret, nil, claimsFor("ana", map[string]any{"iat": c.iat, "exp": c.exp}))
		_, err := v.Verify(t.Context(), token)
		if c.want == "" && err != nil || c.want != "" && (err == nil || code(t, err, token) != c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
	issuer := must(auth.NewIssuer(auth.IssuerOptions{Secret: secret, MaxAge: time.Hour}))
	token, id, err := issuer.Issue("ana", nil, 24*time.Hour)
	if err != nil || time.Until(id.ExpiresAt) > time.Hour {
		t.Errorf("issued %+v, %v", id, err)
	}
	wantCode(t, v, token, "")
}

func TestInvalidRules(t *testing.T) {
	for name, o := range map[string]auth.Options{
		"no scope of hark": {Scopes: map[string]string{"hark:admin": "amdin"}}, "an empty name": {Scopes: map[string]string{"": "admin"}},
		"a space": {Scopes: map[string]string{"a b": "admin"}}, "negative": {MaxAge: -time.Second},
	} {
		o.Secret = secret
		if _, err := auth.New(o); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// FuzzClaims checks that the user of a signed token is the claim with exactly that name.
func FuzzClaims(f *testing.F) {
	v := newVerifier(f)
	for _, seed := range []string{
		`"sub":"ana"`, `"sub":"ana","SUB":"bob"`, `"sub":"ana","sub":"bob"`, `"x":{"sub":"bob"},"sub":"ana"`, `"sub":"a\"b:\\","scope":"x"`,
		`"sub":"ana","scope":"admin\tnotify"`, `"sub":null`, `"sub":"ana"}{`, `"sub":"\ud800"`, `"sub":"ana","aud":[1]`, `"sub":"ana","iat":1e400`, `"sub":"0","":1e700`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		claims := "{" + text + `,"exp":99999999999}`
		if len(claims) > 4000 {
			return
		}
		id, err := v.Verify(t.Context(), signText(t, hs256, claims))
		if err != nil {
			code(t, err, "")
			return
		}
		names, all := topNames(t, claims)
		if names["sub"] != 1 || id.User != all["sub"] {
			t.Fatalf("%s speaks for %q", claims, id.User)
		}
		for name, n := range names {
			if n != 1 {
				t.Fatalf("%s has %q %d times", claims, name, n)
			}
		}
		if scope, _ := all["scope"].(string); id.Has("admin") && !slices.Contains(strings.Split(scope, " "), "admin") {
			t.Fatalf("%s is an admin", claims)
		}
	})
}

// topNames reads an object in another way than auth: token by token.
func topNames(t *testing.T, text string) (names map[string]int, all map[string]any) {
	dec := json.NewDecoder(strings.NewReader(text))
	dec.UseNumber() // a number of any size is a claim
	names, all = make(map[string]int), make(map[string]any)
	if token, err := dec.Token(); err != nil || token != json.Delim('{') {
		t.Fatalf("accepted %s: %v", text, err)
	}
	for dec.More() {
		name, err := dec.Token()
		var value any
		if err = errors.Join(err, dec.Decode(&value)); err != nil {
			t.Fatalf("accepted %s: %v", text, err)
		}
		names[name.(string)]++
		all[name.(string)] = value
	}
	return names, all
}
