package auth

import (
	"slices"
	"time"
)

// The scopes of hark.
const (
	ScopeNotify  = "notify"  // may post notifications for others
	ScopeEnqueue = "enqueue" // may enqueue jobs for others, and read and cancel those
	ScopeAdmin   = "admin"   // may see and act on every job, and revoke tokens
)

// Scopes lists all scopes of hark.
var Scopes = []string{ScopeNotify, ScopeEnqueue, ScopeAdmin}

// Identity is the identity of a caller.
type Identity struct {
	User string
	// Scope has hark's names for hark's scopes, whatever names the token uses, and all other scopes unchanged.
	Scope []string
	// ExpiresAt is when the token expires and the streams end, in UTC and whole seconds. Zero means never; a [Verifier]
	// never returns that.
	ExpiresAt time.Time
	// IssuedAt is the token's iat, in UTC and whole seconds; zero if absent.
	IssuedAt time.Time
	// ID is the token's jti, empty if absent.
	ID string
	// Topics are the topics of live events that the user may listen to, as patterns: see [jobs.MatchTopic]. A [Verifier] reads
	// them from the claim hark_topics, a list of texts.
	Topics []string
	// Claims are all claims of the token, by their exact names, with numbers as [json.Number]. They must not be changed,
	// since all requests with the token share them. The identity of a ticket has no claims.
	Claims map[string]any
	// FromCookie says that the browser has sent the token by itself, so that a page of another site may have forged the
	// call: see [Origins.Check]. [Verifier.Authenticate] sets it, and [Verifier.Verify] does not.
	FromCookie bool
}

// Service reports whether the caller is a service, which acts for users: it has one of hark's scopes.
func (id *Identity) Service() bool {
	return id.Has(ScopeNotify) || id.Has(ScopeEnqueue) || id.Has(ScopeAdmin)
}

// Has reports whether the token grants scope.
func (id *Identity) Has(scope string) bool { return slices.Contains(id.Scope, scope) }
