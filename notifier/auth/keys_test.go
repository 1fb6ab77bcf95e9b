package auth_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"sync"
	"testing"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var secret = []byte("0123456789abcdef0123456789abcdef")

// keyPair is a signing key of a test's identity provider.
type keyPair struct {
	kid     string
	method  jwt.SigningMethod
	private crypto.Signer
}

// Creating RSA keys is slow, so all tests share them.
var (
	rsaKey = sync.OnceValue(func() crypto.Signer { return must(rsa.GenerateKey(rand.Reader, 2048)) })
	rsaOld = sync.OnceValue(func() crypto.Signer { return must(rsa.GenerateKey(rand.Reader, 2048)) })
	ecKey  = sync.OnceValue(func() crypto.Signer { return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) })
	edKey  = sync.OnceValue(func() crypto.Signer { _, k, err := ed25519.GenerateKey(rand.Reader); return must(k, err) })
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func rs256() keyPair { return keyPair{"rsa-1", jwt.SigningMethodRS256, rsaKey()} }
func es256() keyPair { return keyPair{"ec-1", jwt.SigningMethodES256, ecKey()} }
func eddsa() keyPair { return keyPair{"ed-1", jwt.SigningMethodEdDSA, edKey()} }

func (k keyPair) sign(t testing.TB, header, claims map[string]any) string {
	t.Helper()
	token := jwt.NewWithClaims(k.method, jwt.MapClaims(claims))
	token.Header["kid"] = k.kid
	return signed(t, token, header, k.private)
}

func signHS(t testing.TB, key []byte, header, claims map[string]any) string {
	t.Helper()
	return signed(t, jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims(claims)), header, key)
}

// signed signs a token after its header was overridden; nil removes a name.
func signed(t testing.TB, token *jwt.Token, header map[string]any, key any) string {
	t.Helper()
	for name, value := range header {
		token.Header[name] = value
		if value == nil {
			delete(token.Header, name)
		}
	}
	s, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// claimsFor returns valid claims with overrides; nil removes a name.
func claimsFor(user string, changes map[string]any) map[string]any {
	now := time.Now()
	c := map[string]any{"sub": user, "aud": "hark", "iat": now.Unix(), "exp": now.Add(time.Hour).Unix(), "scope": "notify admin"}
	for name, value := range changes {
		c[name] = value
		if value == nil {
			delete(c, name)
		}
	}
	return c
}

// jwks returns the set with the public keys of the pairs.
func jwks(t testing.TB, pairs ...keyPair) []byte {
	t.Helper()
	set := struct {
		Keys []any `json:"keys"`
	}{Keys: []any{}}
	for _, p := range pairs {
		jwk, err := jwkset.NewJWKFromKey(p.private.Public(), jwkset.JWKOptions{Metadata: jwkset.JWKMetadataOptions{
			KID: p.kid, ALG: jwkset.ALG(p.method.Alg()), USE: jwkset.UseSig,
		}})
		if err != nil {
			t.Fatal(err)
		}
		set.Keys = append(set.Keys, jwk.Marshal())
	}
	data, err := json.Marshal(set)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// raw joins any three parts to a token.
func raw(header, claims, signature string) string {
	enc := base64.RawURLEncoding.EncodeToString
	return enc([]byte(header)) + "." + enc([]byte(claims)) + "." + enc([]byte(signature))
}
