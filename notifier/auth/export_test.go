package auth

import "time"

// CacheSize is cacheSize.
const CacheSize = cacheSize

// CachedTokens returns the number of cached tokens of v.
func CachedTokens(v *Verifier) int { return len(v.cache.current) + len(v.cache.previous) }

// ClearCache removes all cached tokens of v.
func ClearCache(v *Verifier) {
	v.cache.mu.Lock()
	defer v.cache.mu.Unlock()
	v.cache.current, v.cache.previous = nil, nil
}

// ParseKeys returns the number of usable keys of a set.
func ParseKeys(data []byte) (int, error) {
	set, err := parseKeys(data)
	return len(set), err
}

// ParseDiscovery parses the document of an issuer on another machine.
func ParseDiscovery(data []byte, issuer string) (keys string, err error) {
	return parseDiscovery(data, issuer, false)
}

// SignUntil is Sign with any expiry.
func (l *Links) SignUntil(user, job string, run int, expiresAt time.Time) string {
	return l.sign(user, job, run, expiresAt)
}
