package sse

import (
	"hash/maphash"
	"time"

	"github.com/hark-jobs/hark/internal/joblog"
)

// tokenHash returns a hash of a token's id, which may be long, or 0 if it has none.
func (h *Hub) tokenHash(id string) uint64 {
	if id == "" {
		return 0
	}
	return max(maphash.String(h.tokenSeed, id), 1)
}

// EndUser ends the user's streams whose tokens were issued up to a time, in whole seconds, or at an unknown time.
// It does not block.
func (h *Hub) EndUser(user string, upTo time.Time) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	if us := h.users[joblog.EscapeUser(user)]; us != nil {
		for s := range us.eachLocked {
			if s.issued <= upTo.Unix() {
				s.endRevoked()
			}
		}
	}
}

// EndToken ends the streams of the token with this id. It does not block.
func (h *Hub) EndToken(id string) {
	token := h.tokenHash(id)
	if token == 0 {
		return
	}
	h.mu.RLock()
	defer h.mu.RUnlock()
	for _, us := range h.users {
		for s := range us.eachLocked {
			if s.token == token {
				s.endRevoked()
			}
		}
	}
}

// endRevoked ends a stream because its token was revoked.
func (s *stream) endRevoked() {
	s.end("token_revoked", "Your access was revoked; sign in again.", time.Second)
}
