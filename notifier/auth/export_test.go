package auth

import "time"

// SeenSize is seenSize for the tests.
const SeenSize = seenSize

// Remembered says how many tokens v remembers.
func Remembered(v *Verifier) int { return len(v.seen.young) + len(v.seen.old) }

// Forget makes v forget the tokens it has seen.
func Forget(v *Verifier) {
	v.seen.mu.Lock()
	defer v.seen.mu.Unlock()
	v.seen.young, v.seen.old = nil, nil
}

// ParseKeys says how many usable keys a set has.
func ParseKeys(data []byte) (int, error) {
	set, err := parseKeys(data)
	return len(set), err
}

// ParseDiscovery reads the document of an issuer that is not on this machine.
func ParseDiscovery(data []byte, issuer string) (keys string, err error) {
	return parseDiscovery(data, issuer, false)
}

// SignUntil is Sign for any time.
func (l *Links) SignUntil(user, job string, run int, expiresAt time.Time) string {
	return l.sign(user, job, run, expiresAt)
}
