package sse

import (
	"hash/maphash"
	"time"

	"github.com/hark-jobs/hark/jobs"
)

// tokenHash stands for a token's id, which may be long. 0 is that of none.
func (h *Hub) tokenHash(id string) uint64 {
	if id == "" {
		return 0
	}
	return max(maphash.String(h.seed, id), 1)
}

// EndUser ends the user's streams whose tokens were issued up to a time, in whole seconds, or do not say when they were.
func (h *Hub) EndUser(user string, upTo time.Time) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	if f := h.feeds[jobs.EscapeUser(user)]; f != nil {
		for s := range f.streams {
			if s.issued <= upTo.Unix() {
				s.revoked()
			}
		}
	}
}

// EndToken ends the streams of the token with this id.
func (h *Hub) EndToken(id string) {
	token := h.tokenHash(id)
	if token == 0 {
		return
	}
	h.mu.RLock()
	defer h.mu.RUnlock()
	for _, f := range h.feeds {
		for s := range f.streams {
			if s.token == token {
				s.revoked()
			}
		}
	}
}

func (s *stream) revoked() {
	s.end("token_revoked", "Your access was revoked; sign in again.", time.Second)
}
