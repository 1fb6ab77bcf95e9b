package auth

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/golang-jwt/jwt/v5"
)

// MaxTokenBytes limits a token: longer ones are refused unread.
const MaxTokenBytes = 8 << 10

// MinSecretBytes is the least an HS256 secret must have (RFC 7518, section 3.2).
const MinSecretBytes = 32

// leeway is how far clocks may be apart when times in a token are looked at.
const leeway = 5 * time.Second

// The methods each source of keys may verify.
var (
	secretMethods = []string{"HS256"}
	jwksMethods   = []string{"RS256", "ES256", "EdDSA"}
)

// Options say which tokens a [Verifier] accepts. At least one of Secret, JWKS and an Issuer that is a URL must be given.
type Options struct {
	// Secret verifies HS256. It must have [MinSecretBytes].
	Secret []byte
	// JWKS verifies RS256, ES256 and EdDSA: the path of a JWK set, or its URL. With neither it nor a Secret, and an Issuer
	// that is a URL, the keys are those that the issuer's OpenID Connect discovery document names. A URL must be https,
	// unless its host is a loopback one. Keys from a URL need an Audience.
	JWKS string
	// Issuer, if set, must be the iss claim.
	Issuer string
	// Audience, if set, are those of which one must be in the aud claim.
	Audience []string
	// UserClaim is the claim that names the user; sub if empty.
	UserClaim string
	// Scopes maps names of scopes in tokens to hark's own. A scope of hark that a name is mapped to is granted by such
	// names alone.
	Scopes map[string]string
	// MaxAge, if set, is the longest lifetime of a token: from its iat, which is required then, to its exp.
	MaxAge time.Duration
	// Revocations, if set, are looked at for every token.
	Revocations *Revocations
	// Logger hears when the JWKS cannot be read. The default is slog.Default().
	Logger *slog.Logger
}

// Verifier verifies tokens. It is safe for concurrent use.
type Verifier struct {
	parser  *jwt.Parser
	rules   rules
	secret  []byte
	keys    *keySource // nil without a JWKS
	seen    seen
	revoked *Revocations // nil knows of none
}

// New returns a Verifier. A JWKS file must be there and hold a usable key; a URL is not asked
// before [Verifier.Run].
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
		return nil, errors.New("auth: neither a secret nor a JWKS is given to verify tokens with")
	case (o.JWKS == "" || IsURL(o.JWKS)) && len(o.Audience) == 0:
		return nil, errors.New("auth: the keys come from a URL, and no audience is set")
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

// Run keeps the JWKS fresh until ctx ends: a file is read again within two seconds of a change, a URL every
// five minutes and, at most every five seconds, when a token names a key that is not known. Trouble is
// logged, and the keys known so far stay. It always returns nil.
func (v *Verifier) Run(ctx context.Context) error {
	if v.keys == nil {
		<-ctx.Done()
		return nil
	}
	v.keys.run(ctx)
	return nil
}

// Verify returns who the token speaks for, or an [*Error]. It waits, three seconds at most, only while a
// JWKS is being fetched that may hold the key; otherwise it takes microseconds. The
// scopes and claims it returns must not be changed.
func (v *Verifier) Verify(ctx context.Context, token string) (Identity, error) {
	if token == "" {
		return Identity{}, refuse(CodeTokenMissing, "The request carries no token.")
	}
	if len(token) > MaxTokenBytes {
		return Identity{}, invalidToken("The token is longer than 8 KiB.")
	}
	// The keys are looked at before the token: if others come meanwhile, what is remembered counts no more.
	hash, keys := tokenHash(sha256.Sum256([]byte(token))), v.currentKeys()
	if id, ok := v.seen.find(hash, keys, time.Now()); ok {
		return v.unlessRevoked(id)
	}
	c := claims{rules: &v.rules}
	_, err := v.parser.ParseWithClaims(token, &c, func(t *jwt.Token) (any, error) { return v.key(ctx, t) })
	if err != nil {
		return Identity{}, refusal(err)
	}
	id := c.identity()
	from, until := c.span()
	v.seen.add(hash, sighting{id, keys, from, until})
	return v.unlessRevoked(id)
}

// unlessRevoked asks each time: what is remembered of a token does not say whether it was revoked since.
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

// key returns the key, or keys, that t must be signed with. The parser has checked the method already
// against those of all sources; here each source sees its own methods alone.
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

// checkHeader refuses tokens that are not meant as bearer tokens, headers with a name twice (RFC 7515, section 4), and
// extensions that must be understood (section 4.1.11): hark understands none.
func checkHeader(t *jwt.Token) error {
	header := t.Header
	text, _, _ := strings.Cut(t.Raw, ".")
	data, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || !utf8.Valid(data) || checkNames(data, header) != nil {
		return invalidToken("The token's header has a name twice, or is not valid UTF-8.")
	}
	if _, ok := header["crit"]; ok {
		return invalidToken("The token demands a JWT extension that is not supported here.")
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

// refusal makes an [*Error] of the parser's. Expired comes last, for it alone tells a client to renew
// the token, and that must not be said of a token which was never good.
func refusal(err error) *Error {
	var own *Error
	is := func(target error) bool { return errors.Is(err, target) }
	switch {
	case errors.As(err, &own):
		return own
	case is(errDate):
		return invalidToken("The token's exp, nbf or iat claim lies before 1970 or beyond the year 9999.")
	case is(jwt.ErrTokenNotValidYet):
		return invalidToken("The token is not valid yet.")
	case is(jwt.ErrTokenUsedBeforeIssued):
		return invalidToken("The token was issued in the future; the clocks do not agree.")
	case is(jwt.ErrTokenInvalidIssuer):
		return invalidToken("The token is from another issuer.")
	case is(jwt.ErrTokenInvalidAudience):
		return invalidToken("The token is meant for another audience.")
	case is(jwt.ErrTokenRequiredClaimMissing):
		return invalidToken("The token lacks a claim that is required here: exp, iss or aud.")
	case is(jwt.ErrTokenExpired):
		return refuse(CodeTokenExpired, "The token has expired.")
	case is(jwt.ErrTokenSignatureInvalid), is(jwt.ErrTokenUnverifiable):
		return invalidToken("The token is not signed with a key and method that are accepted here.")
	}
	return invalidToken("The token is not a well-formed JWT.")
}
