package auth

import (
	"context"
	"encoding/base64"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/hark-jobs/hark/internal/joblog"
	"github.com/hark-jobs/hark/internal/trouble"
	"github.com/hark-jobs/hark/jobs"
)

// MaxIDBytes is the largest size of a jti that can be revoked. The jti becomes part of a NATS subject.
const MaxIDBytes = 1000

const (
	checkPeriod   = 5 * time.Second        // the interval of checks that the watch has received all revocations
	cleanupPeriod = 10 * time.Minute       // the interval of deleting expired revocations
	restoreTime   = time.Minute            // the timeout of storing known revocations again
	markerTTL     = time.Hour              // how long the delete marker of a lifted revocation is kept
	revokeWait    = 2 * time.Second        // how long a change waits until the watch has received it
	rewatchPause  = 500 * time.Millisecond // the pause before a failed watch is retried
	expiryMargin  = time.Minute            // for differences of clocks, and leeways
)

// Revocation revokes the tokens of a user that were issued up to a time, or the token with a jti. Either User or ID is set.
type Revocation struct {
	User string
	ID   string
	// RevokedAt is the time of the revocation, in UTC. Tokens of the user with an iat up to that second, or without iat,
	// are refused.
	RevokedAt time.Time
}

// RevocationsOptions are the options of [NewRevocations].
type RevocationsOptions struct {
	// MaxAge is the maximum lifetime of a token. Older revocations are deleted, since the tokens have expired. 0 means no
	// maximum, and revocations are never deleted.
	MaxAge time.Duration
	// OnRevoked, if set, is called for each new revocation, after Check refuses its tokens. It must not block.
	OnRevoked func(Revocation)
	// Logger logs when revocations cannot be read from NATS. Defaults to slog.Default().
	Logger *slog.Logger
}

// Revocations are stored in a bucket of JetStream. Each process has a copy in memory, since each request checks it, and
// watches the bucket: it gets a new revocation in milliseconds. While NATS is unreachable it uses the revocations that it
// has.
//
// Revocations are safe for concurrent use. A nil *Revocations revokes nothing.
type Revocations struct {
	o       RevocationsOptions
	trouble *trouble.Trouble
	kv      *joblog.Bucket
	created time.Time // of the bucket that was last read

	mu      sync.RWMutex
	users   map[string]revoked
	ids     map[string]revoked
	lastSeq uint64        // the last sequence that the watch has received
	changed chan struct{} // closed at each change

	markers []marker // of lifted revocations; it belongs to the goroutine of Open or Run
}

// revoked is an entry of the bucket.
type revoked struct {
	at  time.Time
	seq uint64
}

// marker is the delete marker of a lifted revocation.
type marker struct {
	key string
	seq uint64
	at  time.Time
}

// NewRevocations returns Revocations that are empty before [Revocations.Open].
func NewRevocations(o RevocationsOptions) *Revocations {
	if o.OnRevoked == nil {
		o.OnRevoked = func(Revocation) {}
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return &Revocations{
		o:       o,
		trouble: trouble.New(o.Logger, "revocations not received from NATS; retrying, and using the known ones meanwhile", "revocations are received from NATS again", nil),
		users:   make(map[string]revoked), ids: make(map[string]revoked), changed: make(chan struct{}),
	}
}

// Open binds to the bucket beside the log of the store, creates it if it is missing, and reads it. It blocks for some round
// trips. After an error it may be called again. It must succeed before any method except Check is called.
func (r *Revocations) Open(ctx context.Context, store *joblog.Store) error {
	kv, err := store.BindBucket(ctx, joblog.RevokedConfig(store.Namespace()), "nothing: running notifiers store the revocations that they know again")
	if err == nil {
		r.kv = kv
		err = r.follow(ctx, true)
	}
	if err != nil {
		return fmt.Errorf("auth: open the revocations: %w", err)
	}
	return nil
}

// Check returns an [*Error] if the identity's token was revoked. It does not block, and takes less than a microsecond.
func (r *Revocations) Check(id *Identity) error {
	if r == nil {
		return nil
	}
	r.mu.RLock()
	user, ok := r.users[id.User]
	revoked := ok && !id.IssuedAt.After(user.at)
	if !revoked && id.ID != "" {
		_, revoked = r.ids[id.ID]
	}
	r.mu.RUnlock()
	if revoked {
		return newError(CodeTokenRevoked, "The token was revoked; sign in again.")
	}
	return nil
}

// Revoke revokes the tokens that a user has now, or the token with a jti. Either user or id must be empty. When it returns,
// this process refuses the tokens. It blocks for a round trip, and up to two seconds for the watch. Errors are JetStream's.
func (r *Revocations) Revoke(ctx context.Context, user, id string) (Revocation, error) {
	key, in := r.place(user, id)
	now := time.Now().UTC()
	if known, ok := r.find(in, user+id); ok && known.at.After(now) {
		now = known.at // the clock of another process is ahead; the time must not go back
	}
	seq, err := r.kv.Put(ctx, key, []byte(now.Format(time.RFC3339Nano)))
	if err != nil {
		return Revocation{}, fmt.Errorf("auth: revoke: %w", err)
	}
	received := func() bool { known, ok := r.find(in, user+id); return ok && known.seq >= seq }
	if !r.await(ctx, received) {
		r.put(key, revoked{now, seq}) // the revocation is stored, and the watch will receive the same entry
	}
	return Revocation{user, id, now}, nil
}

// Lift deletes a revocation, so that its tokens are valid again. It returns false if there is none. It blocks as Revoke does.
// Errors are JetStream's.
func (r *Revocations) Lift(ctx context.Context, user, id string) (bool, error) {
	key, in := r.place(user, id)
	if _, ok := r.find(in, user+id); !ok {
		return false, nil
	}
	if err := r.kv.Delete(ctx, key); err != nil {
		return false, fmt.Errorf("auth: lift a revocation: %w", err)
	}
	r.await(ctx, func() bool { _, ok := r.find(in, user+id); return !ok })
	return true, nil
}

// List returns all revocations that this process has, the newest first. It does not block.
func (r *Revocations) List() []Revocation {
	r.mu.RLock()
	all := make([]Revocation, 0, len(r.users)+len(r.ids))
	for user, one := range r.users {
		all = append(all, Revocation{User: user, RevokedAt: one.at})
	}
	for id, one := range r.ids {
		all = append(all, Revocation{ID: id, RevokedAt: one.at})
	}
	r.mu.RUnlock()
	slices.SortFunc(all, func(x, y Revocation) int {
		if c := y.RevokedAt.Compare(x.RevokedAt); c != 0 {
			return c
		}
		return strings.Compare(x.User+x.ID, y.User+y.ID)
	})
	return all
}

// CheckRevocable returns a [jobs.InvalidError] unless either user or id is set, and can be revoked.
func CheckRevocable(user, id string) error {
	switch {
	case (user == "") == (id == ""):
		return &jobs.InvalidError{Code: "invalid_request", Field: "user", Reason: "or jti must be given, and not both"}
	case user != "":
		return jobs.CheckUser(user)
	case len(id) > MaxIDBytes || !utf8.ValidString(id):
		return &jobs.InvalidError{Code: "invalid_request", Field: "jti", Reason: fmt.Sprintf("must be text of at most %d bytes; revoke the user instead", MaxIDBytes)}
	}
	return nil
}

const (
	userKey = "user."
	idKey   = "jti."
)

// place returns the key of a user or a jti in the bucket, and the map that it belongs to.
func (r *Revocations) place(user, id string) (key string, in *map[string]revoked) {
	// Keys allow fewer characters than users and jtis.
	if user != "" {
		return userKey + base64.RawURLEncoding.EncodeToString([]byte(user)), &r.users
	}
	return idKey + base64.RawURLEncoding.EncodeToString([]byte(id)), &r.ids
}

func parseKey(key string) (user, id string, ok bool) {
	if text, isUser := strings.CutPrefix(key, userKey); isUser {
		name, err := base64.RawURLEncoding.DecodeString(text)
		return string(name), "", err == nil && len(name) > 0
	}
	text, isID := strings.CutPrefix(key, idKey)
	name, err := base64.RawURLEncoding.DecodeString(text)
	return "", string(name), isID && err == nil && len(name) > 0
}

// entryOf reads an entry. A malformed entry gets the time when it was stored.
func entryOf(entry jetstream.KeyValueEntry) revoked {
	at, err := time.Parse(time.RFC3339Nano, string(entry.Value()))
	if err != nil {
		at = entry.Created()
	}
	return revoked{at.UTC(), entry.Revision()}
}
