package auth

import (
	"slices"
	"time"
)

// The scopes hark knows.
const (
	ScopeNotify = "notify" // may post notifications for others
	ScopeAdmin  = "admin"  // may see and act on every job
)

// Identity is who is asking.
type Identity struct {
	User  string   `json:"user"`
	Scope []string `json:"scope,omitempty"`
	// ExpiresAt is when the token ends, in UTC and whole seconds. Streams end then.
	ExpiresAt time.Time `json:"expires_at"`
	// FromCookie says that the browser added the token by itself, so that the call may be forged by
	// another page: see [Origins.Check]. [Verifier.Verify] cannot know; the caller sets it.
	FromCookie bool `json:"-"`
}

// Has reports whether the token grants scope.
func (id *Identity) Has(scope string) bool { return slices.Contains(id.Scope, scope) }
