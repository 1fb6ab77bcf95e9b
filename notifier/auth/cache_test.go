package auth_test

import (
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hark-jobs/hark/notifier/auth"
)

// A valid token is cached until it expires.
func TestVerifyAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVerifier(t)
		now := time.Now().Unix()
		token := signHS(t, secret, nil, claimsFor("ada", map[string]any{"exp": now + 60, "scope": "notify"}))
		for range 3 {
			id, err := v.Verify(t.Context(), token)
			if err != nil || id.User != "ada" || !id.Has(auth.ScopeNotify) || id.ExpiresAt.Unix() != now+60 {
				t.Fatalf("Verify = %+v, %v", id, err)
			}
		}
		time.Sleep(64*time.Second + 999*time.Millisecond) // exp and the leeway
		wantCode(t, v, token, "")
		time.Sleep(time.Millisecond)
		wantCode(t, v, token, auth.CodeTokenExpired)
		wantCode(t, v, token, auth.CodeTokenExpired)
		wantCode(t, v, token[:len(token)-4]+"AAAA", auth.CodeTokenInvalid)
	})
}

// A cached token is refused as soon as its key is no longer in the JWKS.
func TestVerifyAgainWithOtherKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProvider(t)
		p.publish(jwks(t, rs256(), es256()))
		v := start(t, providerURL)
		token := rs256().sign(t, nil, claimsFor("ada", nil))
		wantCode(t, v, token, "")
		wantCode(t, v, token, "")
		p.publish(jwks(t, es256()))
		time.Sleep(6 * time.Minute)
		wantCode(t, v, token, auth.CodeTokenInvalid)
	})
}

// The cache is bounded, and does not mix up the identities of many tokens.
func TestVerifyManyTokens(t *testing.T) {
	v := newVerifier(t)
	tokens := make([]string, 3000)
	for round := range 2 {
		for i := range tokens {
			user := "user-" + strconv.Itoa(i)
			if round == 0 {
				tokens[i] = signHS(t, secret, nil, claimsFor(user, nil))
			}
			if id, err := v.Verify(t.Context(), tokens[i]); err != nil || id.User != user {
				t.Fatalf("Verify = %+v, %v; want %s", id, err, user)
			}
		}
	}
	if n := auth.CachedTokens(v); n > 2*auth.CacheSize {
		t.Errorf("%d tokens are cached, more than %d", n, 2*auth.CacheSize)
	}
}
