package auth

import (
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/hark-jobs/hark/jobs"
)

// Issuer issues HS256 tokens. It is safe for concurrent use.
type Issuer struct {
	o     IssuerOptions
	rules rules
}

// IssuerOptions are the options of an [Issuer]. A [Verifier] with the same values accepts its tokens.
type IssuerOptions struct {
	Secret   []byte // at least [MinSecretBytes]
	Issuer   string // the iss claim, if set
	Audience string // the aud claim, if set
	// UserClaim is the claim that names the user. Defaults to sub.
	UserClaim string
	// Scopes maps names of scopes in tokens to hark's scopes: see [Options]. The tokens get the mapped names.
	Scopes map[string]string
	// MaxAge, if set, limits the lifetime: Issue shortens a longer one.
	MaxAge time.Duration
}

// NewIssuer checks the options and returns an Issuer.
func NewIssuer(o IssuerOptions) (*Issuer, error) {
	if err := checkSecret(o.Secret); err != nil {
		return nil, fmt.Errorf("auth: %w", err)
	}
	i := &Issuer{o: o, rules: rules{o.UserClaim, maps.Clone(o.Scopes), o.MaxAge}}
	if err := i.rules.check(); err != nil {
		return nil, fmt.Errorf("auth: %w", err)
	}
	i.o.Secret = slices.Clone(o.Secret)
	return i, nil
}

// Issue returns a token for user, valid from now on for ttl, and its identity. ttl must be at least a second. Each token has
// a jti of its own, so that it can be revoked. Issue does not block.
func (i *Issuer) Issue(user string, scope []string, ttl time.Duration) (string, Identity, error) {
	if err := jobs.CheckUser(user); err != nil {
		return "", Identity{}, fmt.Errorf("auth: issue: %w", err)
	}
	if ttl < time.Second {
		return "", Identity{}, errors.New("auth: issue: a token must be valid for at least a second")
	}
	if i.o.MaxAge > 0 {
		ttl = min(ttl, i.o.MaxAge)
	}
	now := time.Now().Truncate(time.Second)
	all := map[string]any{
		i.rules.user(): user, "jti": rand.Text(), "iat": seconds(now), "exp": seconds(now.Add(ttl)),
	}
	for name, value := range map[string]string{"iss": i.o.Issuer, "aud": i.o.Audience, "scope": i.rules.write(scope)} {
		if value != "" {
			all[name] = value
		}
	}
	c := claims{rules: &i.rules}
	if err := errors.Join(c.set(all), c.Validate()); err != nil {
		return "", Identity{}, fmt.Errorf("auth: issue: %w", err)
	}
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims(all)).SignedString(i.o.Secret)
	if err != nil {
		return "", Identity{}, fmt.Errorf("auth: issue: %w", err)
	}
	return token, c.identity(), nil
}

func checkSecret(secret []byte) error {
	if len(secret) < MinSecretBytes {
		return fmt.Errorf("the JWT secret has %d bytes, but HS256 needs at least %d (try: openssl rand -base64 32)", len(secret), MinSecretBytes)
	}
	return nil
}
