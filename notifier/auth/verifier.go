package auth

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/hark-jobs/hark/internal/exact"
)

// MaxTokenBytes is the largest size of a token. Longer ones are refused without parsing.
const MaxTokenBytes = 8 << 10

// MinSecretBytes is the smallest size of an HS256 secret (RFC 7518, section 3.2).
const MinSecretBytes = 32

// leeway is the tolerated difference between the clocks of an issuer and hark.
const leeway = 5 * time.Second

// The methods that each source of keys may verify.
var (
	secretMethods = []string{"HS256"}
	jwksMethods   = []string{"RS256", "ES256", "EdDSA"}
)

// Options say which tokens a [Verifier] accepts. At least one of Secret, JWKS and an Issuer that is a URL must be given.
type Options struct {
	// Secret verifies HS256. It must have [MinSecretBytes].
	Secret []byte
	// JWKS verifies RS256, ES256 and EdDSA: the path of a JWK set, or its URL. Without JWKS and Secret, the Issuer must be a
	// URL, and its OpenID Connect discovery document names the keys. A URL must be https, unless its host is a loopback
	// one. Keys from a URL need an Audience.
	JWKS string
	// Issuer, if set, must be the iss claim.
	Issuer string
	// Audience, if set, must have an element in common with the aud claim.
	Audience []string
	// UserClaim is the claim that names the user. Defaults to sub.
	UserClaim string
	// Scopes maps names of scopes in tokens to hark's scopes. If a name is mapped to a scope of hark, only mapped names
	// grant it.
	Scopes map[string]string
	// MaxAge, if set, is the maximum lifetime of a token: from its iat, which is required then, to its exp.
	MaxAge time.Duration
	// Revocations, if set, are checked for every token.
	Revocations *Revocations
	// Logger logs when the JWKS cannot be read. Defaults to slog.Default().
	Logger *slog.Logger
}

// Verifier verifies tokens. It is safe for concurrent use.
type Verifier struct {
	parser  *jwt.Parser
	rules   rules
	secret  []byte
	keys    *keySource // nil without a JWKS
	cache   tokenCache
	revoked *Revocations // nil revokes nothing
}

// New checks the options and returns a Verifier. A JWKS file must exist and have a usable key. A URL is not requested before
// [Verifier.Run].
func New(o Options) (*Verifier, error) {
	v := &Verifier{
		secret: slices.Clone(o.Secret), revoked: o.Revocations,
		rules: rules{o.UserClaim, maps.Clone(o.Scopes), o.MaxAge},
	}
	if err := v.rules.check(); err != nil {
		return nil, fmt.Errorf("auth: %w", err)
	}
	var methods []string
	if len(o.Secret) > 0 {
		if err := checkSecret(o.Secret); err != nil {
			return nil, fmt.Errorf("auth: %w", err)
		}
		methods = append(methods, secretMethods...)
	}
	switch {
	case o.JWKS == "" && len(o.Secret) > 0:
	case o.JWKS == "" && !IsURL(o.Issuer):
		return nil, errors.New("auth: Secret, JWKS or an Issuer that is a URL is required")
	case (o.JWKS == "" || IsURL(o.JWKS)) && len(o.Audience) == 0:
		return nil, errors.New("auth: keys from a URL need an Audience")
	default:
		keys, err := newKeySource(o.JWKS, o.Issuer, o.Logger)
		if err != nil {
			return nil, fmt.Errorf("auth: %w", err)
		}
		v.keys = keys
		methods = append(methods, jwksMethods...)
	}
	options := []jwt.ParserOption{
		jwt.WithValidMethods(methods), jwt.WithExpirationRequired(), jwt.WithIssuedAt(),
		jwt.WithLeeway(leeway), jwt.WithStrictDecoding(),
	}
	if o.Issuer != "" {
		options = append(options, jwt.WithIssuer(o.Issuer))
	}
	if len(o.Audience) > 0 {
		options = append(options, jwt.WithAudience(o.Audience...))
	}
	v.parser = jwt.NewParser(options...)
	return v, nil
}

// Run updates the JWKS until ctx ends: from a file within two seconds of a change; from a URL every five minutes and, at most
// every five seconds, when a token has an unknown key. Run logs failures, and keeps the known keys then. It always returns
// nil.
func (v *Verifier) Run(ctx context.Context) error {
	if v.keys == nil {
		<-ctx.Done()
		return nil
	}
	v.keys.run(ctx)
	return nil
}

// Authenticate returns the identity of a request by its token (see [FromRequest]), or an [*Error]. It is [Verifier.Verify],
// and also sets FromCookie. The caller must call [Origins.Check] for a token from a cookie.
func (v *Verifier) Authenticate(r *http.Request) (Identity, error) {
	token, fromCookie := FromRequest(r)
	id, err := v.Verify(r.Context(), token)
	id.FromCookie = fromCookie
	return id, err
}

// Verify returns the identity of a token, or an [*Error]. It takes microseconds, unless the key is unknown: then it waits up
// to three seconds for a fetch of the JWKS. The scopes and claims must not be changed.
func (v *Verifier) Verify(ctx context.Context, token string) (Identity, error) {
	if token == "" {
		return Identity{}, newError(CodeTokenMissing, "The request has no token.")
	}
	if len(token) > MaxTokenBytes {
		return Identity{}, invalidToken("The token is longer than 8 KiB.")
	}
	// Read the keys before the cache: if the keys change meanwhile, the entry is not used.
	hash, keys := tokenHash(sha256.Sum256([]byte(token))), v.currentKeys()
	if id, ok := v.cache.find(hash, keys, time.Now()); ok {
		return v.unlessRevoked(id)
	}
	c := claims{rules: &v.rules}
	_, err := v.parser.ParseWithClaims(token, &c, func(t *jwt.Token) (any, error) { return v.key(ctx, t) })
	if err != nil {
		return Identity{}, fromJWTError(err)
	}
	id := c.identity()
	from, until := c.validity()
	v.cache.add(hash, cacheEntry{id, keys, from, until})
	return v.unlessRevoked(id)
}

// unlessRevoked returns an error if the token was revoked. Cached identities must be checked, too.
func (v *Verifier) unlessRevoked(id Identity) (Identity, error) {
	if err := v.revoked.Check(&id); err != nil {
		return Identity{}, err
	}
	return id, nil
}

func (v *Verifier) currentKeys() *keySet {
	if v.keys == nil {
		return nil
	}
	return v.keys.current.Load()
}

// key returns the keys that may have signed t. The parser has checked that some source accepts the method; key passes it to
// that source only.
func (v *Verifier) key(ctx context.Context, t *jwt.Token) (any, error) {
	if err := checkHeader(t); err != nil {
		return nil, err
	}
	alg := t.Method.Alg()
	if slices.Contains(secretMethods, alg) {
		return v.secret, nil
	}
	kid := ""
	if given, ok := t.Header["kid"]; ok {
		if kid, ok = given.(string); !ok {
			return nil, invalidToken("The token's kid header is not a string.")
		}
	}
	return v.keys.find(ctx, alg, kid)
}

// checkHeader refuses tokens that are not bearer tokens, headers with a duplicate name (RFC 7515, section 4), and critical
// extensions (section 4.1.11): hark supports none.
func checkHeader(t *jwt.Token) error {
	header := t.Header
	text, _, _ := strings.Cut(t.Raw, ".")
	data, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || exact.Names(data) != nil {
		return invalidToken("The token's header has a duplicate name, or is not valid UTF-8.")
	}
	if _, ok := header["crit"]; ok {
		return invalidToken("The token requires a JWT extension that hark does not support.")
	}
	typ, ok := header["typ"]
	if !ok {
		return nil
	}
	name, _ := typ.(string)
	name = strings.ToLower(name)
	switch strings.TrimPrefix(name, "application/") {
	case "jwt", "at+jwt":
		return nil
	}
	return invalidToken("The token's typ header is neither JWT nor at+jwt.")
}

// fromJWTError converts an error of the parser to an [*Error]. Expired comes last: it makes clients renew the token, so an
// invalid token must not get it.
func fromJWTError(err error) *Error {
	var own *Error
	is := func(target error) bool { return errors.Is(err, target) }
	switch {
	case errors.As(err, &own):
		return own
	case is(errDate):
		return invalidToken("The token's exp, nbf or iat claim is before 1970 or after the year 9999.")
	case is(jwt.ErrTokenNotValidYet):
		return invalidToken("The token is not valid yet.")
	case is(jwt.ErrTokenUsedBeforeIssued):
		return invalidToken("The token was issued in the future; the clocks of the issuer and the server differ.")
	case is(jwt.ErrTokenInvalidIssuer):
		return invalidToken("The token is from another issuer.")
	case is(jwt.ErrTokenInvalidAudience):
		return invalidToken("The token is for another audience.")
	case is(jwt.ErrTokenRequiredClaimMissing):
		return invalidToken("The token lacks a required claim: exp, iss or aud.")
	case is(jwt.ErrTokenExpired):
		return newError(CodeTokenExpired, "The token has expired.")
	case is(jwt.ErrTokenSignatureInvalid), is(jwt.ErrTokenUnverifiable):
		return invalidToken("The token is not signed with an accepted key and method.")
	}
	return invalidToken("The token is not a well-formed JWT.")
}
