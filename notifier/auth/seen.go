package auth

import (
	"crypto/sha256"
	"sync"
	"time"
)

// seenSize is how many tokens a generation of [seen] has: half of what is kept at most, some 300 KiB.
const seenSize = 512

// seen remembers tokens that were found good, because a service sends the same one with each of its calls, and
// parsing it and checking its signature costs twelve microseconds and 43 allocations a time. It keeps hashes and
// never a token, and says nothing about tokens that were refused. It is safe for concurrent use.
//
// It has two generations. When the young one is full it becomes the old one, and what nobody asked for in the
// old one is gone: a token in use stays, and nobody has to look for the one to drop.
type seen struct {
	mu         sync.Mutex
	young, old map[tokenHash]sighting
}

type tokenHash [sha256.Size]byte

// sighting is what was found out about a token, and what that rests on.
type sighting struct {
	id          Identity
	keys        *keySet // of the JWKS then: other keys, other findings
	from, until time.Time
}

// find returns whom the token speaks for, if that was found out with the same keys and the token is good
// at this time. The caller must not change the scopes.
func (s *seen) find(token tokenHash, keys *keySet, now time.Time) (Identity, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	found, ok := s.young[token]
	if !ok {
		if found, ok = s.old[token]; ok {
			s.put(token, found)
		}
	}
	if !ok || found.keys != keys || now.Before(found.from) || !now.Before(found.until) {
		return Identity{}, false
	}
	return found.id, true
}

func (s *seen) add(token tokenHash, found sighting) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.put(token, found)
}

func (s *seen) put(token tokenHash, found sighting) {
	if s.young == nil || len(s.young) >= seenSize {
		s.young, s.old = make(map[tokenHash]sighting), s.young
	}
	s.young[token] = found
}
