package auth

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/golang-jwt/jwt/v5"

	"github.com/hark-jobs/hark/jobs"
)

// rules say how claims are read. The zero value does so as RFC 7519 and RFC 8693 have it.
type rules struct {
	userClaim string            // the claim that names the user; sub if empty
	scopes    map[string]string // hark's scope by the name that tokens have for it
	maxAge    time.Duration     // the longest lifetime; 0 means any
}

func (r *rules) user() string {
	if r.userClaim == "" {
		return "sub"
	}
	return r.userClaim
}

// check returns what is wrong with rules that somebody configured.
func (r *rules) check() error {
	switch r.userClaim {
	case "iss", "aud", "exp", "nbf", "iat", "jti", "scope":
		return fmt.Errorf("the claim %s cannot name the user: it has a meaning of its own", r.userClaim)
	}
	for name, scope := range r.scopes {
		if !slices.Contains(Scopes, scope) {
			return fmt.Errorf("the scope %q is mapped to %q, which is none of hark's: %s", name, scope, strings.Join(Scopes, ", "))
		}
		if name == "" || strings.Contains(name, " ") {
			return fmt.Errorf("%q, which is mapped to %s, cannot be the name of a scope", name, scope)
		}
	}
	if r.maxAge < 0 {
		return errors.New("the longest lifetime of a token is negative")
	}
	return nil
}

// read makes hark's scopes of a token's. A name that is mapped becomes hark's. The plain name of a scope that others are
// mapped to grants nothing: an issuer that has to write hark:admin may mean something else by admin.
func (r *rules) read(text string) []string {
	var scope []string
	// RFC 6749, section 3.3: nothing but U+0020 stands between two. strings.Fields would split at others.
	for name := range strings.SplitSeq(text, " ") {
		if mapped, ok := r.scopes[name]; ok {
			name = mapped
		} else if name == "" || r.mapped(name) != "" {
			continue
		}
		if !slices.Contains(scope, name) {
			scope = append(scope, name)
		}
	}
	return scope
}

// mapped returns a name that tokens have for a scope of hark, empty if it is its own.
func (r *rules) mapped(scope string) (name string) {
	for from, to := range r.scopes {
		if to == scope && (name == "" || from < name) {
			name = from
		}
	}
	return name
}

// write makes a token's scope claim of hark's scopes.
func (r *rules) write(scope []string) string {
	names := slices.Clone(scope)
	for i, one := range names {
		if name := r.mapped(one); name != "" {
			names[i] = name
		}
	}
	return strings.Join(names, " ")
}

// claims are those of a token. They stand in for [jwt.MapClaims], which takes the last of two equal names, and for
// [jwt.RegisteredClaims], which takes SUB for sub, and makes any time of any number: what 1e300 becomes depends on the
// processor, and no year after 9999 can be written.
type claims struct {
	rules *rules
	all   map[string]any

	user, issuer, id, scope string
	audience                jwt.ClaimStrings
	exp, nbf, iat           *float64 // since 1970, maybe with a fraction (NumericDate of RFC 7519, section 2); nil means none
}

// UnmarshalJSON is called by the parser.
func (c *claims) UnmarshalJSON(data []byte) error {
	all, err := exactObject(data)
	switch {
	case errors.Is(err, errNames):
		return invalidToken("The token has a claim twice.")
	case err != nil:
		return err
	}
	return c.take(all)
}

// take reads what hark needs of the claims. A claim that is null counts as none.
func (c *claims) take(all map[string]any) error {
	c.all = all
	for _, one := range []struct {
		name string
		into *string
	}{{c.rules.user(), &c.user}, {"iss", &c.issuer}, {"jti", &c.id}, {"scope", &c.scope}} {
		switch value := all[one.name].(type) {
		case nil:
		case string:
			*one.into = value
		default:
			return invalidToken("The token's " + one.name + " claim is not a string.")
		}
	}
	for _, one := range []struct {
		name string
		into **float64
	}{{"exp", &c.exp}, {"nbf", &c.nbf}, {"iat", &c.iat}} {
		switch value := all[one.name].(type) {
		case nil:
		case json.Number:
			number, err := value.Float64()
			if err != nil {
				return errDate // 1e400
			}
			*one.into = &number
		default:
			return invalidToken("The token's " + one.name + " claim is not a number.")
		}
	}
	switch value := all["aud"].(type) {
	case nil:
	case string:
		c.audience = jwt.ClaimStrings{value}
	case []any:
		for _, one := range value {
			text, ok := one.(string)
			if !ok {
				return invalidToken("The token's aud claim is neither a string nor a list of them.")
			}
			c.audience = append(c.audience, text)
		}
	default:
		return invalidToken("The token's aud claim is neither a string nor a list of them.")
	}
	return nil
}

// endOfTime is the first moment that RFC 3339, and so the HTTP API, has no words for.
var endOfTime = float64(time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC).Unix())

var errDate = errors.New("a date lies before 1970 or beyond the year 9999")

func date(s *float64) (*jwt.NumericDate, error) {
	switch {
	case s == nil:
		return nil, nil
	case *s < 0 || *s >= endOfTime:
		return nil, errDate
	}
	return &jwt.NumericDate{Time: time.Unix(int64(*s), 0).UTC()}, nil
}

// seconds writes a time as a NumericDate.
func seconds(t time.Time) json.Number { return json.Number(strconv.FormatInt(t.Unix(), 10)) }

// The methods that make it [jwt.Claims].
func (c *claims) GetExpirationTime() (*jwt.NumericDate, error) { return date(c.exp) }
func (c *claims) GetNotBefore() (*jwt.NumericDate, error)      { return date(c.nbf) }
func (c *claims) GetIssuedAt() (*jwt.NumericDate, error)       { return date(c.iat) }
func (c *claims) GetIssuer() (string, error)                   { return c.issuer, nil }
func (c *claims) GetSubject() (string, error)                  { return c.user, nil }
func (c *claims) GetAudience() (jwt.ClaimStrings, error)       { return c.audience, nil }

// Validate is called by the parser after the signature and the times were found good.
func (c *claims) Validate() error {
	name := c.rules.user()
	switch {
	case c.user == "":
		return invalidToken("The token has no " + name + " claim, which names the user.")
	case strings.ContainsRune(c.user, utf8.RuneError):
		// encoding/json replaces what is no UTF-8. Two users must never become one that way.
		return invalidToken("The token's " + name + " claim is not valid UTF-8.")
	}
	if err := jobs.CheckUser(c.user); err != nil {
		return invalidToken("The token's " + name + " claim cannot be a user: " + err.Error() + ".")
	}
	if c.rules.maxAge == 0 || c.exp == nil { // the parser has said already that exp is missing
		return nil
	}
	// Both times are of the issuer's clock, so there is no leeway between them. A token issued in the future is refused
	// by the parser, so none is good for longer than the lifetime and the leeway from now on.
	switch {
	case c.iat == nil:
		return invalidToken("The token has no iat claim, which is required here.")
	case *c.exp-*c.iat > c.rules.maxAge.Seconds():
		return invalidToken("The token is valid for longer than is accepted here; get one with a shorter lifetime.")
	}
	return nil
}

// identity may be called once the claims were found good.
func (c *claims) identity() Identity {
	id := Identity{
		User: c.user, Scope: c.rules.read(c.scope), ExpiresAt: time.Unix(int64(*c.exp), 0).UTC(), ID: c.id, Claims: c.all,
	}
	if c.iat != nil {
		id.IssuedAt = time.Unix(int64(*c.iat), 0).UTC()
	}
	return id
}

// span is when claims that were found good are so: from a moment on and until before another. Whoever asks at
// another time must look at them again. It may be called once the claims were found good.
func (c *claims) span() (from, until time.Time) {
	for _, s := range []*float64{c.nbf, c.iat} {
		if s != nil {
			if t := time.Unix(int64(*s), 0).Add(-leeway); t.After(from) {
				from = t
			}
		}
	}
	return from, time.Unix(int64(*c.exp), 0).Add(leeway)
}
