package auth_test

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hark-jobs/hark/notifier/auth"
)

// openID is an issuer on this machine.
type openID struct {
	*httptest.Server
	document atomic.Value // of type string; %[1]s stands for the server's URL
	set      atomic.Value // of type []byte
}

func newOpenID(t *testing.T, path string) *openID {
	p := &openID{}
	p.document.Store(`{"issuer":"%[1]s` + path + `","jwks_uri":"%[1]s/keys"}`)
	p.set.Store(jwks(t, rs256()))
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+strings.TrimSuffix(path, "/")+"/.well-known/openid-configuration", func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, strings.ReplaceAll(p.document.Load().(string), "%[1]s", p.URL))
	})
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, r *http.Request) { w.Write(p.set.Load().([]byte)) })
	mux.HandleFunc("GET /elsewhere", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://id.example.com/keys", http.StatusFound)
	})
	mux.HandleFunc("GET /round", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/round", http.StatusFound) })
	mux.HandleFunc("GET /once", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/keys", http.StatusFound) })
	p.Server = httptest.NewServer(mux)
	t.Cleanup(p.Close)
	return p
}

// answerForAll sends every HTTP request of the process to p until the test ends.
func (p *openID) answerForAll(t *testing.T) {
	before := http.DefaultTransport
	http.DefaultTransport = &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", p.Listener.Addr().String())
	}}
	t.Cleanup(func() { http.DefaultTransport = before })
}

func discovering(issuer string) func(*auth.Options) {
	return func(o *auth.Options) { o.Issuer = issuer }
}

// TestDiscovery checks that the issuer alone is enough to find its keys, with and without a trailing slash.
func TestDiscovery(t *testing.T) {
	for _, path := range []string{"", "/", "/realms/shop", "/realms/shop/"} {
		p := newOpenID(t, path)
		v := start(t, "", discovering(p.URL+path))
		claims := func(issuer string) map[string]any { return claimsFor("ana", map[string]any{"iss": issuer}) }
		wantCode(t, v, rs256().sign(t, nil, claims(p.URL+path)), "")
		wantCode(t, v, es256().sign(t, nil, claims(p.URL+path)), auth.CodeTokenInvalid)
		wantCode(t, v, rs256().sign(t, nil, claims(p.URL+path+"x")), auth.CodeTokenInvalid)
		wantCode(t, v, signHS(t, secret, nil, claims(p.URL+path)), auth.CodeTokenInvalid)
	}
}

// TestDiscoveryRefuses checks that a document which is not exactly the issuer's own yields no keys.
func TestDiscoveryRefuses(t *testing.T) {
	for name, document := range map[string]string{
		"another issuer":       `{"issuer":"https://id.example.com","jwks_uri":"%[1]s/keys"}`,
		"a slash more":         `{"issuer":"%[1]s/","jwks_uri":"%[1]s/keys"}`,
		"upper case":           `{"issuer":"HTTP://127.0.0.1","jwks_uri":"%[1]s/keys"}`,
		"no issuer":            `{"jwks_uri":"%[1]s/keys"}`,
		"Issuer":               `{"Issuer":"%[1]s","jwks_uri":"%[1]s/keys"}`,
		"two issuers":          `{"issuer":"https://id.example.com","issuer":"%[1]s","jwks_uri":"%[1]s/keys"}`,
		"two of another":       `{"issuer":"%[1]s","jwks_uri":"%[1]s/keys","x":1,"x":1}`,
		"JWKS_URI":             `{"issuer":"%[1]s","JWKS_URI":"%[1]s/keys"}`,
		"no keys":              `{"issuer":"%[1]s"}`,
		"keys over plain HTTP": `{"issuer":"%[1]s","jwks_uri":"http://id.example.com/keys"}`,
		"keys in a file":       `{"issuer":"%[1]s","jwks_uri":"file:///etc/passwd"}`,
		"a path":               `{"issuer":"%[1]s","jwks_uri":"/keys"}`,
		"keys elsewhere":       `{"issuer":"%[1]s","jwks_uri":"%[1]s/elsewhere"}`,
		"round and round":      `{"issuer":"%[1]s","jwks_uri":"%[1]s/round"}`,
		"huge":                 `{"issuer":"%[1]s","jwks_uri":"%[1]s/keys"}` + strings.Repeat(" ", 1<<20),
		"null":                 `null`,
		"a list":               `[]`,
		"two documents":        `{"issuer":"%[1]s","jwks_uri":"%[1]s/keys"}{}`,
	} {
		p := newOpenID(t, "")
		p.answerForAll(t)
		p.document.Store(document)
		v := start(t, "", discovering(p.URL))
		token := rs256().sign(t, nil, claimsFor("ana", map[string]any{"iss": p.URL}))
		if _, err := v.Verify(t.Context(), token); err == nil || code(t, err, token) != auth.CodeKeysUnavailable {
			t.Errorf("%s: %v", name, err)
		}
	}
	p := newOpenID(t, "")
	p.answerForAll(t)
	p.document.Store(`{"issuer":"%[1]s","jwks_uri":"%[1]s/once"}`)
	v := start(t, "", discovering(p.URL))
	wantCode(t, v, rs256().sign(t, nil, claimsFor("ana", map[string]any{"iss": p.URL})), "")
}

// TestDiscoveryIsRefreshed checks that changed keys are noticed, and that a malformed document changes nothing.
func TestDiscoveryIsRefreshed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProvider(t)
		document := []byte(`{"issuer":"http://127.0.0.1","jwks_uri":"http://127.0.0.1/jwks.json"}`)
		v := start(t, "", discovering("http://127.0.0.1"))
		token := es256().sign(t, nil, claimsFor("ana", map[string]any{"iss": "http://127.0.0.1"}))
		wantCode(t, v, token, auth.CodeKeysUnavailable)
		p.document.Store(&document)
		p.publish(jwks(t, es256()))
		time.Sleep(time.Minute)
		wantCode(t, v, token, "")
		bad := []byte(`{"issuer":"http://127.0.0.2","jwks_uri":"http://127.0.0.1/jwks.json"}`)
		p.document.Store(&bad)
		p.publish(jwks(t, rs256()))
		time.Sleep(6 * time.Minute)
		wantCode(t, v, token, "")
		p.document.Store(&document)
		time.Sleep(6 * time.Minute)
		wantCode(t, v, token, auth.CodeTokenInvalid)
	})
}

// TestKeysFromAURL checks that keys from a URL need an audience, since the issuer signs tokens for others, too, and that the
// URL must be https or on this machine.
func TestKeysFromAURL(t *testing.T) {
	for name, c := range map[string]struct {
		o  auth.Options
		ok bool
	}{
		"a URL":                     {auth.Options{JWKS: "https://id.example.com/keys", Audience: []string{"hark"}}, true},
		"without an audience":       {auth.Options{JWKS: "https://id.example.com/keys"}, false},
		"without, and a secret":     {auth.Options{JWKS: "HTTPS://id.example.com/keys", Secret: secret}, false},
		"plain HTTP":                {auth.Options{JWKS: "http://id.example.com/keys", Audience: []string{"hark"}}, false},
		"plain HTTP here":           {auth.Options{JWKS: "http://[::1]:8080/keys", Audience: []string{"hark"}}, true},
		"plain HTTP, not quite":     {auth.Options{JWKS: "http://localhost.example.com/keys", Audience: []string{"hark"}}, false},
		"an issuer":                 {auth.Options{Issuer: "https://id.example.com/", Audience: []string{"hark"}}, true},
		"an issuer, no audience":    {auth.Options{Issuer: "https://id.example.com/"}, false},
		"an issuer over plain HTTP": {auth.Options{Issuer: "http://id.example.com/", Audience: []string{"hark"}}, false},
		"an issuer with a query":    {auth.Options{Issuer: "https://id.example.com/?a=b", Audience: []string{"hark"}}, false},
		"an issuer with a login":    {auth.Options{Issuer: "https://a:b@id.example.com/", Audience: []string{"hark"}}, false},
		"an issuer that is a name":  {auth.Options{Issuer: "shop", Audience: []string{"hark"}}, false},
		"a secret and an issuer":    {auth.Options{Issuer: "https://id.example.com/", Secret: secret}, true}, // the issuer is not requested
	} {
		if _, err := auth.New(c.o); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestJWKSNamesAreExact checks that names in a JWKS are exact, as in a token.
func TestJWKSNamesAreExact(t *testing.T) {
	var set struct {
		Keys []map[string]any `json:"keys"`
	}
	if err := json.Unmarshal(jwks(t, es256()), &set); err != nil {
		t.Fatal(err)
	}
	text := func(change func(key map[string]any)) string {
		key := make(map[string]any)
		for name, value := range set.Keys[0] {
			key[name] = value
		}
		change(key)
		data, err := json.Marshal(key)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	same := text(func(map[string]any) {})
	for name, c := range map[string]struct {
		set string
		ok  bool
	}{
		"as it is":     {`{"keys":[` + same + `]}`, true},
		"with others":  {`{"keys":[` + same + `,{"kty":"new"},7,null],"Keys":[],"x":1}`, true},
		"Keys":         {`{"Keys":[` + same + `]}`, false},
		"two lists":    {`{"keys":[],"keys":[` + same + `]}`, false},
		"two kids":     {`{"keys":[` + strings.Replace(same, `{`, `{"kid":"x",`, 1) + `]}`, false},
		"USE":          {`{"keys":[` + text(func(k map[string]any) { k["USE"] = "enc" }) + `]}`, true},
		"KTY":          {`{"keys":[` + text(func(k map[string]any) { k["KTY"] = k["kty"]; delete(k, "kty") }) + `]}`, false},
		"X beside x":   {`{"keys":[` + text(func(k map[string]any) { k["X"] = k["y"] }) + `]}`, true},
		"enc":          {`{"keys":[` + text(func(k map[string]any) { k["use"] = "enc" }) + `]}`, false},
		"a list":       {`[` + same + `]`, false},
		"keys no list": {`{"keys":` + same + `}`, false},
		"more behind":  {`{"keys":[` + same + `]} {}`, false},
	} {
		if keys, err := auth.ParseKeys([]byte(c.set)); (err == nil && keys == 1) != c.ok {
			t.Errorf("%s: %d keys, %v", name, keys, err)
		}
	}
}

// FuzzParseKeys checks that no text makes parseKeys panic, and that names are exact.
func FuzzParseKeys(f *testing.F) {
	for _, seed := range []string{
		string(jwks(f, rs256(), es256(), eddsa())), `{"keys":[]}`, `{"keys":[{"kty":"oct","k":"AAAA"}]}`, `{"keys":[{"kty":"RSA","n":"","e":"AQAB"}]}`, `{"Keys":[]}`,
		`{"keys":[{"kty":"EC","crv":"P-256","x":"AAAA","y":"AAAA"}]}`, `{"keys":[{"kty":"OKP","crv":"Ed25519","x":"AAAA"}]}`, `{"keys":[{"kty":"RSA","n":"AQAB","e":"AAAAAAAAAAAAAAAAAAAA"}]}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if n, err := auth.ParseKeys(data); err == nil && n > 0 {
			if names, _ := topNames(t, string(data)); names["keys"] != 1 {
				t.Fatalf("%d keys of %s", n, data)
			}
		}
	})
}

// FuzzParseDiscovery checks that keys come only from a safe URL in the issuer's own document.
func FuzzParseDiscovery(f *testing.F) {
	const issuer = "https://id.example.com"
	for _, seed := range []string{
		`{"issuer":"https://id.example.com","jwks_uri":"https://id.example.com/keys"}`, `{"issuer":"https://id.example.com","jwks_uri":"http://127.0.0.1/"}`,
		`{"issuer":"https://id.example.com","jwks_uri":"https:keys"}`, `{"issuer":"https://id.example.com","issuer":"x","jwks_uri":"https://a/"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		keys, err := auth.ParseDiscovery(data, issuer)
		if err != nil {
			return
		}
		names, all := topNames(t, string(data))
		if names["issuer"] != 1 || names["jwks_uri"] != 1 || all["issuer"] != issuer || all["jwks_uri"] != keys || !strings.HasPrefix(strings.ToLower(keys), "https://") {
			t.Fatalf("%s gives %q", data, keys)
		}
	})
}
