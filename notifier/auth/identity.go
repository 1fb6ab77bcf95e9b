package auth

import (
	"slices"
	"time"
)

// The scopes hark knows.
const (
	ScopeNotify  = "notify"  // may post notifications for others
	ScopeEnqueue = "enqueue" // may enqueue jobs for others
	ScopeAdmin   = "admin"   // may see and act on every job, and revoke tokens
)

// Scopes are all of them.
var Scopes = []string{ScopeNotify, ScopeEnqueue, ScopeAdmin}

// Identity is who is asking.
type Identity struct {
	User string
	// Scope has the names that hark has for its scopes, whatever the token calls them, and all others as they are.
	Scope []string
	// ExpiresAt is when the token ends, in UTC and whole seconds. Streams end then.
	ExpiresAt time.Time
	// IssuedAt is the token's iat, in UTC and whole seconds; zero if it has none.
	IssuedAt time.Time
	// ID is the token's jti, empty if it has none.
	ID string
	// Claims are all claims of the token, by their exact names, with numbers as [json.Number]. They must not be changed:
	// all who use the token share them. They are nil if the identity is that of a ticket.
	Claims map[string]any
	// FromCookie says that the browser added the token by itself, so that the call may be forged by
	// another page: see [Origins.Check]. [Verifier.Verify] cannot know; the caller sets it.
	FromCookie bool
}

// Service reports whether the token is one of a service, that acts for users, and not of a user.
func (id *Identity) Service() bool {
	return id.Has(ScopeNotify) || id.Has(ScopeEnqueue) || id.Has(ScopeAdmin)
}

// Has reports whether the token grants scope.
func (id *Identity) Has(scope string) bool { return slices.Contains(id.Scope, scope) }
