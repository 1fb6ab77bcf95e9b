package auth

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/hark-jobs/hark/jobs"
)

// Issuer issues HS256 tokens. It is safe for concurrent use.
type Issuer struct {
	o IssuerOptions
}

// IssuerOptions are what goes into each token.
type IssuerOptions struct {
	Secret   []byte // at least [MinSecretBytes]
	Issuer   string // the iss claim, if set
	Audience string // the aud claim, if set
}

// NewIssuer returns an Issuer.
func NewIssuer(o IssuerOptions) (*Issuer, error) {
	if err := checkSecret(o.Secret); err != nil {
		return nil, fmt.Errorf("auth: %w", err)
	}
	o.Secret = slices.Clone(o.Secret)
	return &Issuer{o}, nil
}

// Issue returns a token for user that is valid from now on for ttl, which is at least a second, and who
// it speaks for.
func (i *Issuer) Issue(user string, scope []string, ttl time.Duration) (string, Identity, error) {
	if err := jobs.CheckUser(user); err != nil {
		return "", Identity{}, fmt.Errorf("auth: issue: %w", err)
	}
	if ttl < time.Second {
		return "", Identity{}, errors.New("auth: issue: a token must be valid for at least a second")
	}
	now := time.Now()
	c := claims{
		Subject: user, Issuer: i.o.Issuer, Scope: strings.Join(scope, " "),
		IssuedAt: secondsOf(now), ExpiresAt: secondsOf(now.Add(ttl)),
	}
	if i.o.Audience != "" {
		c.Audience = jwt.ClaimStrings{i.o.Audience}
	}
	if err := c.Validate(); err != nil {
		return "", Identity{}, fmt.Errorf("auth: issue: %w", err)
	}
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, &c).SignedString(i.o.Secret)
	if err != nil {
		return "", Identity{}, fmt.Errorf("auth: issue: %w", err)
	}
	return token, c.identity(), nil
}

func checkSecret(secret []byte) error {
	if len(secret) < MinSecretBytes {
		return fmt.Errorf("the JWT secret has %d bytes, but HS256 wants at least %d (try: openssl rand -base64 32)", len(secret), MinSecretBytes)
	}
	return nil
}
