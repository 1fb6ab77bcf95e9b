package auth

import (
	"errors"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/golang-jwt/jwt/v5"

	"github.com/hark-jobs/hark/jobs"
)

// claims are what hark reads of a token. They stand in for [jwt.RegisteredClaims], which makes any time
// of any number: what 1e300 becomes depends on the processor, and no year after 9999 can be written.
type claims struct {
	Subject   string           `json:"sub"`
	Issuer    string           `json:"iss,omitempty"`
	Audience  jwt.ClaimStrings `json:"aud,omitempty"`
	ExpiresAt seconds          `json:"exp,omitempty"`
	NotBefore seconds          `json:"nbf,omitempty"`
	IssuedAt  seconds          `json:"iat,omitempty"`
	Scope     string           `json:"scope,omitempty"` // with spaces between (RFC 8693, section 4.2)
}

// seconds is a NumericDate (RFC 7519, section 2): since 1970, maybe with a fraction. Nil means none.
type seconds *float64

func secondsOf(t time.Time) seconds {
	s := float64(t.Unix())
	return &s
}

// endOfTime is the first moment that RFC 3339, and so the HTTP API, has no words for.
var endOfTime = float64(time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC).Unix())

var errDate = errors.New("a date lies before 1970 or beyond the year 9999")

func date(s seconds) (*jwt.NumericDate, error) {
	switch {
	case s == nil:
		return nil, nil
	case *s < 0 || *s >= endOfTime:
		return nil, errDate
	}
	return &jwt.NumericDate{Time: time.Unix(int64(*s), 0).UTC()}, nil
}

// The methods that make it [jwt.Claims].
func (c *claims) GetExpirationTime() (*jwt.NumericDate, error) { return date(c.ExpiresAt) }
func (c *claims) GetNotBefore() (*jwt.NumericDate, error)      { return date(c.NotBefore) }
func (c *claims) GetIssuedAt() (*jwt.NumericDate, error)       { return date(c.IssuedAt) }
func (c *claims) GetIssuer() (string, error)                   { return c.Issuer, nil }
func (c *claims) GetSubject() (string, error)                  { return c.Subject, nil }
func (c *claims) GetAudience() (jwt.ClaimStrings, error)       { return c.Audience, nil }

// Validate is called by the parser after the signature and the times were found good.
func (c *claims) Validate() error {
	switch {
	case c.Subject == "":
		return invalidToken("The token has no sub claim, which names the user.")
	case strings.ContainsRune(c.Subject, utf8.RuneError):
		// encoding/json replaces what is no UTF-8. Two users must never become one that way.
		return invalidToken("The token's sub claim is not valid UTF-8.")
	}
	if err := jobs.CheckUser(c.Subject); err != nil {
		return invalidToken("The token's sub claim cannot be a user: " + err.Error() + ".")
	}
	return nil
}

// identity may be called once the claims were found good.
func (c *claims) identity() Identity {
	return Identity{User: c.Subject, Scope: strings.Fields(c.Scope), ExpiresAt: time.Unix(int64(*c.ExpiresAt), 0).UTC()}
}

// span is when claims that were found good are so: from a moment on and until before another. Whoever asks at
// another time must look at them again. It may be called once the claims were found good.
func (c *claims) span() (from, until time.Time) {
	for _, s := range []seconds{c.NotBefore, c.IssuedAt} {
		if s != nil {
			if t := time.Unix(int64(*s), 0).Add(-leeway); t.After(from) {
				from = t
			}
		}
	}
	return from, time.Unix(int64(*c.ExpiresAt), 0).Add(leeway)
}
