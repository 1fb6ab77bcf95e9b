package auth

import (
	"crypto/sha256"
	"sync"
	"time"
)

// cacheSize is the number of tokens in a generation of [tokenCache]. Two generations take about 300 KiB.
const cacheSize = 512

// tokenCache caches the identities of valid tokens, since a service sends the same token with each call, and parsing
// and verifying one costs twelve microseconds and 43 allocations. It stores hashes of tokens, and nothing about invalid
// tokens. It is safe for concurrent use.
//
// It has two generations. When the current one is full, it becomes the previous one, and the entries of the previous
// one are dropped unless they were used meanwhile. So a token in use stays, and no search for the oldest is needed.
type tokenCache struct {
	mu                sync.Mutex
	current, previous map[tokenHash]cacheEntry
}

type tokenHash [sha256.Size]byte

// cacheEntry is the identity of a token, and the conditions under which it is valid.
type cacheEntry struct {
	id          Identity
	keys        *keySet // the keys of the JWKS that verified the token
	from, until time.Time
}

// find returns the cached identity of a token, if it was verified with these keys and is valid at this time. The caller
// must not change the scopes.
func (c *tokenCache) find(token tokenHash, keys *keySet, now time.Time) (Identity, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	found, ok := c.current[token]
	if !ok {
		if found, ok = c.previous[token]; ok {
			c.putLocked(token, found)
		}
	}
	if !ok || found.keys != keys || now.Before(found.from) || !now.Before(found.until) {
		return Identity{}, false
	}
	return found.id, true
}

func (c *tokenCache) add(token tokenHash, entry cacheEntry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.putLocked(token, entry)
}

// putLocked adds an entry to the current generation. c.mu must be held.
func (c *tokenCache) putLocked(token tokenHash, entry cacheEntry) {
	if c.current == nil || len(c.current) >= cacheSize {
		c.current, c.previous = make(map[tokenHash]cacheEntry), c.current
	}
	c.current[token] = entry
}
