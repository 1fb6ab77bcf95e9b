package auth_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/hark-jobs/hark/internal/natstest"
	"github.com/hark-jobs/hark/notifier/auth"
)

// newVerifier returns a verifier for the secret and the keys rs256, es256 and eddsa.
func newVerifier(t testing.TB, change ...func(*auth.Options)) *auth.Verifier {
	t.Helper()
	path := filepath.Join(t.TempDir(), "jwks.json")
	if err := os.WriteFile(path, jwks(t, rs256(), es256(), eddsa()), 0o600); err != nil {
		t.Fatal(err)
	}
	o := auth.Options{Secret: secret, JWKS: path}
	for _, c := range change {
		c(&o)
	}
	v, err := auth.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// code returns the code of an [auth.Error], and checks what holds for all of them.
func code(t testing.TB, err error, token string) string {
	t.Helper()
	var e *auth.Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v (%T), want an *auth.Error", err, err)
	}
	if !strings.HasSuffix(e.Detail, ".") || strings.ContainsAny(e.Detail, "\n\r") {
		t.Errorf("the detail is not a sentence: %q", e.Detail)
	}
	for _, part := range strings.Split(token, ".") {
		if len(part) > 8 && strings.Contains(fmt.Sprintf("%+v %v", e, errors.Unwrap(e)), part) {
			t.Errorf("the error repeats the token: %v", e)
		}
	}
	return e.Code
}

func TestVerifyAcceptsEveryMethod(t *testing.T) {
	v := newVerifier(t)
	claims := claimsFor("ana", nil)
	noKid := map[string]any{"kid": nil}
	for name, token := range map[string]string{
		"HS256":          signHS(t, secret, nil, claims),
		"HS256 no typ":   signHS(t, secret, map[string]any{"typ": nil}, claims),
		"HS256 with kid": signHS(t, secret, map[string]any{"kid": "whatever"}, claims),
		"HS256 at+jwt":   signHS(t, secret, map[string]any{"typ": "application/AT+JWT"}, claims),
		"RS256":          rs256().sign(t, nil, claims),
		"ES256":          es256().sign(t, nil, claims),
		"EdDSA":          eddsa().sign(t, nil, claims),
		"RS256 no kid":   rs256().sign(t, noKid, claims),
		"ES256 no kid":   es256().sign(t, noKid, claims),
	} {
		t.Run(name, func(t *testing.T) {
			id, err := v.Verify(t.Context(), token)
			if err != nil {
				t.Fatal(err)
			}
			exp := time.Unix(claims["exp"].(int64), 0).UTC()
			if id.User != "ana" || !id.Has("notify") || !id.Has("admin") || id.Has("adm") || id.ExpiresAt != exp {
				t.Errorf("got %+v, want ana with notify and admin until %v", id, exp)
			}
		})
	}
}

// TestVerifyUsers checks that any text except the few forbidden ones is a user, byte for byte.
func TestVerifyUsers(t *testing.T) {
	v := newVerifier(t)
	for _, user := range []string{
		"ana", "ana.maria", "*", ">", "a b", "../etc/passwd", "o'hara@example.com", "🦊🦊", "_", "_ALL", "=41", "\x00",
		strings.Repeat("u", 300), strings.Repeat("é", 600), `"quoted"`, "tab\tline\n", "null",
	} {
		id, err := v.Verify(t.Context(), signHS(t, secret, nil, claimsFor(user, nil)))
		if err != nil || id.User != user {
			t.Errorf("user %.40q: got %.40q, %v", user, id.User, err)
		}
	}
}

func TestVerifyRefuses(t *testing.T) {
	v := newVerifier(t)
	now := time.Now()
	hs := func(changes map[string]any) string { return signHS(t, secret, nil, claimsFor("ana", changes)) }
	good := hs(nil)
	parts := strings.Split(good, ".")
	plain := string(must(json.Marshal(claimsFor("ana", nil))))

	der := must(x509.MarshalPKIXPublicKey(rsaKey().Public()))
	publicPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	pkcs1 := x509.MarshalPKCS1PublicKey(rsaKey().Public().(*rsa.PublicKey))
	set := jwks(t, rs256())
	var keys struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(set, &keys); err != nil {
		t.Fatal(err)
	}
	kid := map[string]any{"kid": "rsa-1"}
	claims := claimsFor("ana", nil)

	for name, c := range map[string]struct {
		token string
		want  string
	}{
		"missing":           {"", auth.CodeTokenMissing},
		"garbage":           {"garbage", auth.CodeTokenInvalid},
		"two dots":          {"..", auth.CodeTokenInvalid},
		"two parts":         {parts[0] + "." + parts[1], auth.CodeTokenInvalid},
		"four parts":        {good + ".x", auth.CodeTokenInvalid},
		"header is a list":  {raw(`[]`, plain, "x"), auth.CodeTokenInvalid},
		"header is null":    {raw(`null`, plain, "x"), auth.CodeTokenInvalid},
		"claims are null":   {raw(`{"alg":"HS256"}`, `null`, "x"), auth.CodeTokenInvalid},
		"alg is a number":   {raw(`{"alg":1}`, plain, "x"), auth.CodeTokenInvalid},
		"huge":              {good + strings.Repeat("A", auth.MaxTokenBytes), auth.CodeTokenInvalid},
		"huge and dotted":   {strings.Repeat(".", 1<<20), auth.CodeTokenInvalid},
		"white space":       {" " + good, auth.CodeTokenInvalid},
		"padding":           {good + "=", auth.CodeTokenInvalid},
		"signature cut":     {good[:len(good)-4], auth.CodeTokenInvalid},
		"no signature":      {parts[0] + "." + parts[1] + ".", auth.CodeTokenInvalid},
		"claims exchanged":  {parts[0] + "." + strings.Split(hs(map[string]any{"sub": "bob"}), ".")[1] + "." + parts[2], auth.CodeTokenInvalid},
		"wrong key":         {signHS(t, []byte("another secret of enough bytes...."), nil, claims), auth.CodeTokenInvalid},
		"empty key":         {signHS(t, []byte{}, nil, claims), auth.CodeTokenInvalid},
		"alg none":          {signed(t, jwt.NewWithClaims(jwt.SigningMethodNone, jwt.MapClaims(claims)), nil, jwt.UnsafeAllowNoneSignatureType), auth.CodeTokenInvalid},
		"alg None":          {raw(`{"alg":"None","typ":"JWT"}`, plain, ""), auth.CodeTokenInvalid},
		"alg NONE":          {raw(`{"alg":"NONE","typ":"JWT"}`, plain, ""), auth.CodeTokenInvalid},
		"alg nOnE signed":   {raw(`{"alg":"nOnE","typ":"JWT"}`, plain, "x"), auth.CodeTokenInvalid},
		"alg empty":         {raw(`{"alg":"","typ":"JWT"}`, plain, ""), auth.CodeTokenInvalid},
		"alg missing":       {raw(`{"typ":"JWT"}`, plain, ""), auth.CodeTokenInvalid},
		"alg none and kid":  {raw(`{"alg":"none","kid":"rsa-1"}`, plain, ""), auth.CodeTokenInvalid},
		"HS384":             {signed(t, jwt.NewWithClaims(jwt.SigningMethodHS384, jwt.MapClaims(claims)), nil, secret), auth.CodeTokenInvalid},
		"HS512":             {signed(t, jwt.NewWithClaims(jwt.SigningMethodHS512, jwt.MapClaims(claims)), nil, secret), auth.CodeTokenInvalid},
		"RS512":             {signed(t, jwt.NewWithClaims(jwt.SigningMethodRS512, jwt.MapClaims(claims)), kid, rsaKey()), auth.CodeTokenInvalid},
		"PS256":             {signed(t, jwt.NewWithClaims(jwt.SigningMethodPS256, jwt.MapClaims(claims)), kid, rsaKey()), auth.CodeTokenInvalid},
		"HS256 by PEM":      {signHS(t, publicPEM, kid, claims), auth.CodeTokenInvalid},
		"HS256 by PEM trim": {signHS(t, []byte(strings.TrimSpace(string(publicPEM))), kid, claims), auth.CodeTokenInvalid},
		"HS256 by DER":      {signHS(t, der, kid, claims), auth.CodeTokenInvalid},
		"HS256 by PKCS1":    {signHS(t, pkcs1, kid, claims), auth.CodeTokenInvalid},
		"HS256 by JWK":      {signHS(t, keys.Keys[0], kid, claims), auth.CodeTokenInvalid},
		"HS256 by JWKS":     {signHS(t, set, kid, claims), auth.CodeTokenInvalid},
		"kid of another":    {rs256().sign(t, map[string]any{"kid": "ec-1"}, claims), auth.CodeTokenInvalid},
		"unknown kid":       {rs256().sign(t, map[string]any{"kid": "rsa-9"}, claims), auth.CodeTokenInvalid},
		"kid is a list":     {rs256().sign(t, map[string]any{"kid": []string{"rsa-1"}}, claims), auth.CodeTokenInvalid},
		"kid is a path":     {rs256().sign(t, map[string]any{"kid": "../../dev/null"}, claims), auth.CodeTokenInvalid},
		"rsa not in set":    {keyPair{"rsa-1", jwt.SigningMethodRS256, rsaOld()}.sign(t, nil, claims), auth.CodeTokenInvalid},
		"key in header":     {keyPair{"rsa-1", jwt.SigningMethodRS256, rsaOld()}.sign(t, map[string]any{"jwk": keys.Keys[0], "jku": "https://example.com", "kid": nil}, claims), auth.CodeTokenInvalid},
		"crit":              {signHS(t, secret, map[string]any{"crit": []string{"b64"}, "b64": false}, claims), auth.CodeTokenInvalid},
		"wrong typ":         {signHS(t, secret, map[string]any{"typ": "secevent+jwt"}, claims), auth.CodeTokenInvalid},
		"typ JWE":           {signHS(t, secret, map[string]any{"typ": "JWE"}, claims), auth.CodeTokenInvalid},
		"typ is a number":   {signHS(t, secret, map[string]any{"typ": 7}, claims), auth.CodeTokenInvalid},

		"expired":             {hs(map[string]any{"exp": now.Add(-time.Minute).Unix()}), auth.CodeTokenExpired},
		"expired long ago":    {hs(map[string]any{"exp": 0}), auth.CodeTokenExpired},
		"expired, wrong key":  {signHS(t, []byte("x"), nil, claimsFor("ana", map[string]any{"exp": 1})), auth.CodeTokenInvalid},
		"expired, no user":    {hs(map[string]any{"exp": 1, "sub": nil}), auth.CodeTokenInvalid},
		"no exp":              {hs(map[string]any{"exp": nil}), auth.CodeTokenInvalid},
		"exp is text":         {hs(map[string]any{"exp": "tomorrow"}), auth.CodeTokenInvalid},
		"exp after all times": {hs(map[string]any{"exp": int64(1) << 40}), auth.CodeTokenInvalid},
		"not valid yet":       {hs(map[string]any{"nbf": now.Add(time.Minute).Unix()}), auth.CodeTokenInvalid},
		"issued tomorrow":     {hs(map[string]any{"iat": now.Add(24 * time.Hour).Unix()}), auth.CodeTokenInvalid},
		"no sub":              {hs(map[string]any{"sub": nil}), auth.CodeTokenInvalid},
		"empty sub":           {hs(map[string]any{"sub": ""}), auth.CodeTokenInvalid},
		"sub is a number":     {hs(map[string]any{"sub": 7}), auth.CodeTokenInvalid},
		"sub _all":            {hs(map[string]any{"sub": "_all"}), auth.CodeTokenInvalid},
		"sub too long":        {hs(map[string]any{"sub": strings.Repeat("u", 1201)}), auth.CodeTokenInvalid},
		"sub no UTF-8":        {signed(t, &jwt.Token{Method: jwt.SigningMethodHS256, Header: map[string]any{"alg": "HS256"}, Claims: jwt.MapClaims{"sub": json.RawMessage(`"a\ud800"`), "exp": claims["exp"]}}, nil, secret), auth.CodeTokenInvalid},
		"scope is a list":     {hs(map[string]any{"scope": []string{"admin"}}), auth.CodeTokenInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			id, err := v.Verify(t.Context(), c.token)
			if got := code(t, err, c.token); got != c.want || id.User != "" {
				t.Errorf("got %s, %v, %+v, want %s", got, err, id, c.want)
			}
		})
	}
}

func TestVerifyAllowsClocksToDiffer(t *testing.T) {
	v := newVerifier(t)
	now := time.Now()
	for name, changes := range map[string]map[string]any{
		"just expired":  {"exp": now.Add(-2 * time.Second).Unix()},
		"almost valid":  {"nbf": now.Add(3 * time.Second).Unix()},
		"almost issued": {"iat": now.Add(3 * time.Second).Unix()},
	} {
		if _, err := v.Verify(t.Context(), signHS(t, secret, nil, claimsFor("ana", changes))); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestOneSourceIsNotTheOther checks that without a secret no HS256 token is accepted, with any key, and without a JWKS only
// HS256.
func TestOneSourceIsNotTheOther(t *testing.T) {
	claims := claimsFor("ana", nil)
	noSecret := newVerifier(t, func(o *auth.Options) { o.Secret = nil })
	publicPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: must(x509.MarshalPKIXPublicKey(rsaKey().Public()))})
	for _, key := range [][]byte{{}, secret, publicPEM, jwks(t, rs256())} {
		token := signHS(t, key, map[string]any{"kid": "rsa-1"}, claims)
		if _, err := noSecret.Verify(t.Context(), token); code(t, err, token) != auth.CodeTokenInvalid {
			t.Errorf("HS256 without a secret: %v", err)
		}
	}
	noJWKS := newVerifier(t, func(o *auth.Options) { o.JWKS = "" })
	for _, pair := range []keyPair{rs256(), es256(), eddsa()} {
		token := pair.sign(t, nil, claims)
		if _, err := noJWKS.Verify(t.Context(), token); code(t, err, token) != auth.CodeTokenInvalid {
			t.Errorf("%s without a JWKS: %v", pair.method.Alg(), err)
		}
	}
}

func TestIssuerAndAudience(t *testing.T) {
	v := newVerifier(t, func(o *auth.Options) { o.Issuer, o.Audience = "https://id.example.com", []string{"hark", "hark-2"} })
	for name, c := range map[string]struct {
		changes map[string]any
		ok      bool
	}{
		"both":         {map[string]any{"iss": "https://id.example.com", "aud": "hark"}, true},
		"among others": {map[string]any{"iss": "https://id.example.com", "aud": []string{"web", "hark"}}, true},
		"the other":    {map[string]any{"iss": "https://id.example.com", "aud": "hark-2"}, true},
		"none":         {map[string]any{"aud": nil}, false},
		"no audience":  {map[string]any{"iss": "https://id.example.com", "aud": nil}, false},
		"no issuer":    {map[string]any{"aud": "hark"}, false},
		"other iss":    {map[string]any{"iss": "https://evil.example.com", "aud": "hark"}, false},
		"other aud":    {map[string]any{"iss": "https://id.example.com", "aud": "harkness"}, false},
		"expired too":  {map[string]any{"iss": "https://evil.example.com", "aud": "hark", "exp": 1}, false},
	} {
		token := signHS(t, secret, nil, claimsFor("ana", c.changes))
		_, err := v.Verify(t.Context(), token)
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && code(t, err, token) != auth.CodeTokenInvalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	p384 := keyPair{"p384", jwt.SigningMethodES384, must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))}
	for name, o := range map[string]auth.Options{
		"nothing":         {},
		"short secret":    {Secret: []byte("changeme")},
		"no file":         {JWKS: filepath.Join(dir, "none.json")},
		"not JSON":        {JWKS: file("a", "-----BEGIN PUBLIC KEY-----")},
		"a key, no set":   {JWKS: file("b", `{"kty":"RSA"}`)},
		"empty set":       {JWKS: file("c", `{"keys":[]}`)},
		"symmetric alone": {JWKS: file("d", `{"keys":[{"kty":"oct","kid":"1","k":"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY","alg":"HS256"}]}`)},
		"P-384 alone":     {JWKS: file("e", string(jwks(t, p384)))},
		"huge":            {JWKS: file("f", `{"keys":[]}`+strings.Repeat(" ", 1<<20))},
		"no host":         {JWKS: "https://"},
	} {
		if _, err := auth.New(o); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func FuzzVerify(f *testing.F) {
	v := newVerifier(f)
	claims := claimsFor("ana", nil)
	for _, seed := range []string{
		"", ".", "..", "a.b.c", raw(`{"alg":"none"}`, `{"sub":"ana"}`, ""), raw(`{"alg":"HS256","crit":["exp"]}`, `{}`, "x"),
		signHS(f, secret, nil, claims), rs256().sign(f, nil, claims), es256().sign(f, nil, claims), eddsa().sign(f, nil, claims),
		signHS(f, secret, nil, claimsFor("_all", nil)), signHS(f, secret, nil, claimsFor("ana", map[string]any{"exp": 1e300})),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, token string) {
		id, err := v.Verify(t.Context(), token)
		if err != nil {
			if code(t, err, ""); id.User != "" {
				t.Fatalf("an identity %+v with the error %v", id, err)
			}
			return
		}
		if id.User != "ana" || !time.Now().Before(id.ExpiresAt.Add(time.Minute)) {
			t.Fatalf("accepted %+v", id)
		}
	})
}

// BenchmarkVerify measures a cached token and one that is not cached.
func BenchmarkVerify(b *testing.B) {
	p := newProcess(b, newServer(b)(), 0)
	for i := range 100 { // as many revoked
		must(p.Revoke(natstest.Context(b), fmt.Sprint("user", i), ""))
		must(p.Revoke(natstest.Context(b), "", fmt.Sprint("jti", i)))
	}
	v := p.v
	claims := claimsFor("ana", map[string]any{"jti": "01JD3QF4X5S7H8J9K0M1N2P3R4", "email": "ana@example.com", "groups": []string{"a", "b"}})
	for name, token := range map[string]string{
		"HS256": signHS(b, secret, nil, claims), "RS256": rs256().sign(b, nil, claims),
		"ES256": es256().sign(b, nil, claims), "EdDSA": eddsa().sign(b, nil, claims),
	} {
		for _, again := range []bool{true, false} {
			b.Run(fmt.Sprintf("%s/cached=%v", name, again), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if !again {
						auth.ClearCache(v)
					}
					if _, err := v.Verify(b.Context(), token); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
