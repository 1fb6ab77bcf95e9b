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

	"github.com/hark-jobs/hark/internal/exact"
	"github.com/hark-jobs/hark/jobs"
)

// rules say how claims are read. The zero value follows RFC 7519 and RFC 8693.
type rules struct {
	userClaim string            // the claim that names the user; empty means sub
	scopes    map[string]string // hark's scope by the name in tokens
	maxAge    time.Duration     // the longest lifetime; 0 means any
}

func (r *rules) user() string {
	if r.userClaim == "" {
		return "sub"
	}
	return r.userClaim
}

// check returns an error for rules that are configured wrongly.
func (r *rules) check() error {
	switch r.userClaim {
	case "iss", "aud", "exp", "nbf", "iat", "jti", "scope":
		return fmt.Errorf("the claim %s cannot name the user: RFC 7519 gives it another meaning", r.userClaim)
	}
	for name, scope := range r.scopes {
		if !slices.Contains(Scopes, scope) {
			return fmt.Errorf("the scope %q is mapped to %q, which is not one of hark's scopes: %s", name, scope, strings.Join(Scopes, ", "))
		}
		if name == "" || strings.Contains(name, " ") {
			return fmt.Errorf("%q, which is mapped to %s, is not a valid name of a scope", name, scope)
		}
	}
	if r.maxAge < 0 {
		return errors.New("the maximum lifetime of a token is negative")
	}
	return nil
}

// read converts the scope claim of a token to hark's scopes. A mapped name becomes hark's. If another name is mapped to a
// scope of hark, the plain name of that scope grants nothing: an issuer that writes hark:admin may mean something else by
// admin.
func (r *rules) read(text string) []string {
	var scope []string
	// RFC 6749, section 3.3: U+0020 separates scopes. strings.Fields would split at other characters, too.
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

// mapped returns a name that is mapped to a scope of hark, or "".
func (r *rules) mapped(scope string) (name string) {
	for from, to := range r.scopes {
		if to == scope && (name == "" || from < name) {
			name = from
		}
	}
	return name
}

// write converts hark's scopes to the scope claim of a token.
func (r *rules) write(scope []string) string {
	names := slices.Clone(scope)
	for i, one := range names {
		if name := r.mapped(one); name != "" {
			names[i] = name
		}
	}
	return strings.Join(names, " ")
}

// claims are the claims of a token. They replace [jwt.MapClaims], which accepts duplicate names, and
// [jwt.RegisteredClaims], which accepts SUB as sub and converts any number to a time: the result for 1e300 depends on
// the processor, and RFC 3339 cannot express years after 9999.
type claims struct {
	rules *rules
	all   map[string]any

	user, issuer, id, scope string
	audience                jwt.ClaimStrings
	exp, nbf, iat           *float64 // seconds since 1970, possibly with a fraction (NumericDate of RFC 7519, section 2); nil means absent
}

// UnmarshalJSON implements [json.Unmarshaler] for the JWT parser.
func (c *claims) UnmarshalJSON(data []byte) error {
	all, err := exact.Object(data)
	if twice := new(exact.NameError); errors.As(err, &twice) {
		return invalidToken("The token has a duplicate claim.")
	} else if err != nil {
		return err
	}
	return c.set(all)
}

// set sets the fields from the claims. A claim that is null counts as absent.
func (c *claims) set(all map[string]any) error {
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

// year10000 is the first second that RFC 3339, and so the HTTP API, cannot express.
var year10000 = float64(time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC).Unix())

var errDate = errors.New("a date is before 1970 or after 9999")

func date(s *float64) (*jwt.NumericDate, error) {
	switch {
	case s == nil:
		return nil, nil
	case *s < 0 || *s >= year10000:
		return nil, errDate
	}
	return &jwt.NumericDate{Time: time.Unix(int64(*s), 0).UTC()}, nil
}

// seconds writes a time as a NumericDate.
func seconds(t time.Time) json.Number { return json.Number(strconv.FormatInt(t.Unix(), 10)) }

// These methods implement [jwt.Claims].
func (c *claims) GetExpirationTime() (*jwt.NumericDate, error) { return date(c.exp) }
func (c *claims) GetNotBefore() (*jwt.NumericDate, error)      { return date(c.nbf) }
func (c *claims) GetIssuedAt() (*jwt.NumericDate, error)       { return date(c.iat) }
func (c *claims) GetIssuer() (string, error)                   { return c.issuer, nil }
func (c *claims) GetSubject() (string, error)                  { return c.user, nil }
func (c *claims) GetAudience() (jwt.ClaimStrings, error)       { return c.audience, nil }

// Validate is called by the parser after it has verified the signature and the times.
func (c *claims) Validate() error {
	name := c.rules.user()
	switch {
	case c.user == "":
		return invalidToken("The token has no " + name + " claim, which names the user.")
	case strings.ContainsRune(c.user, utf8.RuneError):
		// encoding/json replaces invalid UTF-8, which could make two users equal.
		return invalidToken("The token's " + name + " claim is not valid UTF-8.")
	}
	if err := jobs.CheckUser(c.user); err != nil {
		return invalidToken("The token's " + name + " claim is not a valid user name: " + err.Error() + ".")
	}
	if c.rules.maxAge == 0 || c.exp == nil { // the parser refuses a token without exp
		return nil
	}
	// Both times are from the issuer's clock, so there is no leeway between them. The parser refuses a token that was
	// issued in the future, so no token is valid for longer than the lifetime and the leeway from now on.
	switch {
	case c.iat == nil:
		return invalidToken("The token has no iat claim, which this server requires.")
	case *c.exp-*c.iat > c.rules.maxAge.Seconds():
		return invalidToken("The lifetime of the token is longer than this server accepts; get a token with a shorter lifetime.")
	}
	return nil
}

// identity returns the identity of valid claims.
func (c *claims) identity() Identity {
	id := Identity{
		User: c.user, Scope: c.rules.read(c.scope), ExpiresAt: time.Unix(int64(*c.exp), 0).UTC(), ID: c.id, Claims: c.all,
		Topics: c.topics(),
	}
	if c.iat != nil {
		id.IssuedAt = time.Unix(int64(*c.iat), 0).UTC()
	}
	return id
}

// topicsClaim is the claim with the patterns of [Identity.Topics].
const topicsClaim = "hark_topics"

// topics returns the patterns of the token. What is no pattern permits nothing.
func (c *claims) topics() (patterns []string) {
	list, _ := c.all[topicsClaim].([]any)
	for _, v := range list {
		if pattern, ok := v.(string); ok && jobs.CheckTopicPattern(pattern) == nil {
			patterns = append(patterns, pattern)
		}
	}
	return patterns
}

// validity returns the time range in which valid claims stay valid: from inclusive, until exclusive. At any other time they
// must be validated again.
func (c *claims) validity() (from, until time.Time) {
	for _, s := range []*float64{c.nbf, c.iat} {
		if s != nil {
			if t := time.Unix(int64(*s), 0).Add(-leeway); t.After(from) {
				from = t
			}
		}
	}
	return from, time.Unix(int64(*c.exp), 0).Add(leeway)
}
