package auth

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/hark-jobs/hark/internal/trouble"
	"github.com/hark-jobs/hark/jobs"
)

// revokedBucket holds the revocations, by user or jti.
const revokedBucket = "hark_revoked"

// MaxIDBytes is how long a jti may be that can be revoked: it becomes part of a subject of NATS.
const MaxIDBytes = 1000

const (
	lookPeriod   = 5 * time.Second        // how often it is asked whether all revocations were heard
	tidyPeriod   = 10 * time.Minute       // how often expired revocations are deleted
	markerAge    = time.Hour              // how long it can still be heard that a revocation was lifted
	revokeWait   = 2 * time.Second        // how long a change may take to come back from NATS
	rewatchPause = 500 * time.Millisecond // before a watch that broke off is begun again
	expiryMargin = time.Minute            // clocks and leeways
)

// Revocation says that tokens are good no more: those of a user that were issued up to a time, or the one with a jti.
type Revocation struct {
	User string
	ID   string
	// RevokedAt is when, in UTC. Tokens of the user that were issued up to then, in whole seconds, or do not say when they
	// were, are refused.
	RevokedAt time.Time
}

// RevocationsOptions are those of [NewRevocations].
type RevocationsOptions struct {
	// MaxAge is the longest lifetime of a token. A revocation that is older has nothing left to refuse, and is deleted.
	// 0 means that tokens may live for ever, and so do revocations.
	MaxAge time.Duration
	// OnRevoked, if set, is called after each revocation that is new here, which is refused by then. It must not block.
	OnRevoked func(Revocation)
	// Logger hears when NATS does not let revocations be followed. The default is slog.Default().
	Logger *slog.Logger
}

// Revocations are kept in a bucket of JetStream and, by each process, in memory: looking is for every request. A process
// learns of a new one in milliseconds. While it is cut off from NATS it goes on with those that it knows.
//
// They are safe for concurrent use. A nil *Revocations knows of none.
type Revocations struct {
	o       RevocationsOptions
	trouble *trouble.Trouble
	kv      jetstream.KeyValue
	stream  jetstream.Stream

	mu      sync.RWMutex
	users   map[string]revoked
	ids     map[string]revoked
	seen    uint64        // the last sequence that was heard
	changed chan struct{} // closed at each change

	markers []marker // of lifted ones, for the goroutine of Run
}

// revoked is an entry of the bucket.
type revoked struct {
	at  time.Time
	seq uint64
}

type marker struct {
	key string
	seq uint64
	at  time.Time
}

// NewRevocations returns Revocations that know of none before [Revocations.Open].
func NewRevocations(o RevocationsOptions) *Revocations {
	if o.OnRevoked == nil {
		o.OnRevoked = func(Revocation) {}
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return &Revocations{
		o:       o,
		trouble: trouble.New(o.Logger, "revocations cannot be followed; those known so far hold", "revocations are followed again", nil),
		users:   make(map[string]revoked), ids: make(map[string]revoked), changed: make(chan struct{}),
	}
}

// Open binds to the bucket on js, creates it with so many replicas if it is missing, and reads all that is in it. It
// blocks for some round trips. After an error it may be called again; it must have succeeded before the other methods but
// Check are called.
func (r *Revocations) Open(ctx context.Context, js jetstream.JetStream, replicas int) error {
	kv, err := jobs.BindBucket(ctx, js, jetstream.KeyValueConfig{
		Bucket: revokedBucket, Description: "hark: users and tokens that were revoked",
		History: 1, Storage: jetstream.FileStorage, Replicas: max(replicas, 1),
	})
	if err == nil {
		r.kv = kv
		r.stream, err = js.Stream(ctx, "KV_"+revokedBucket)
	}
	if err == nil {
		err = r.follow(ctx, true)
	}
	if err != nil {
		return fmt.Errorf("auth: open the revocations: %w", err)
	}
	return nil
}

// Check returns an [*Error] if the identity's token was revoked. It takes less than a microsecond.
func (r *Revocations) Check(id *Identity) error {
	if r == nil {
		return nil
	}
	r.mu.RLock()
	user, ok := r.users[id.User]
	is := ok && !id.IssuedAt.After(user.at)
	if !is && id.ID != "" {
		_, is = r.ids[id.ID]
	}
	r.mu.RUnlock()
	if is {
		return refuse(CodeTokenRevoked, "The token was revoked; sign in again.")
	}
	return nil
}

// Revoke stores that the tokens of a user, or the one with a jti, are good no more. When it returns, this process refuses
// them. An error is JetStream's.
func (r *Revocations) Revoke(ctx context.Context, user, id string) (Revocation, error) {
	key, in := r.place(user, id)
	now := time.Now().UTC()
	if known, ok := r.find(in, user+id); ok && known.at.After(now) {
		now = known.at // of a process with another clock: it must not go back
	}
	seq, err := r.kv.Put(ctx, key, []byte(now.Format(time.RFC3339Nano)))
	if err != nil {
		return Revocation{}, fmt.Errorf("auth: revoke: %w", err)
	}
	heard := func() bool { known, ok := r.find(in, user+id); return ok && known.seq >= seq }
	if !r.await(ctx, heard) {
		r.put(key, revoked{now, seq}) // it is stored, and what comes over the watch later changes nothing
	}
	return Revocation{user, id, now}, nil
}

// Lift takes a revocation back: tokens that it refused are good again. It reports whether there was one.
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

// List returns all that this process knows, the newest first.
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

// Run follows the revocations of other processes until ctx ends. Trouble is logged, and what is known stays. It always
// returns nil.
func (r *Revocations) Run(ctx context.Context) error {
	for {
		err := r.follow(ctx, false)
		if ctx.Err() != nil {
			return nil
		}
		r.trouble.Begin(err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(rewatchPause):
		}
	}
}

// follow reads all that is in the bucket, and unless that is enough, what comes after it until ctx ends or something is
// wrong.
func (r *Revocations) follow(ctx context.Context, once bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// What is stored by now is in what is read.
	last, err := r.lastSeq(ctx)
	if err != nil {
		return err
	}
	watch, err := r.kv.WatchAll(ctx)
	if err != nil {
		return err
	}
	defer func() {
		_ = watch.Stop()
		go func() { // it blocks while there is something to be taken, and closes it in the end
			for range watch.Updates() {
			}
		}()
	}()
	if err := r.readAll(ctx, watch, last); err != nil || once {
		return err
	}
	r.trouble.Over()
	look, tidy := time.NewTicker(lookPeriod), time.NewTicker(tidyPeriod)
	defer look.Stop()
	defer tidy.Stop()
	r.tidy(ctx)
	for due := uint64(0); ; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case entry, ok := <-watch.Updates():
			if !ok {
				return errors.New("the watch was broken off")
			}
			if entry != nil {
				r.apply(entry)
			}
		case <-look.C:
			// The watch says nothing when it hears nothing.
			last, err := r.lastSeq(ctx)
			if err != nil {
				return err
			}
			if seen := r.lastSeen(); seen < due || last < seen {
				return fmt.Errorf("the watch has heard up to %d, and the bucket is at %d", seen, last)
			}
			due = last
		case <-tidy.C:
			r.tidy(ctx)
		}
	}
}

func (r *Revocations) lastSeq(ctx context.Context) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, lookPeriod)
	defer cancel()
	info, err := r.stream.Info(ctx)
	if err != nil {
		return 0, err
	}
	return info.State.LastSeq, nil
}

func (r *Revocations) lastSeen() uint64 {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.seen
}

// readAll reads what is in the bucket in place of what is known.
func (r *Revocations) readAll(ctx context.Context, watch jetstream.KeyWatcher, last uint64) error {
	users, ids := make(map[string]revoked), make(map[string]revoked)
	r.markers = nil
	for {
		var entry jetstream.KeyValueEntry
		var ok bool
		select {
		case <-ctx.Done():
			return ctx.Err()
		case entry, ok = <-watch.Updates():
		}
		if !ok {
			return errors.New("the watch was broken off")
		}
		if entry == nil {
			break
		}
		last = max(last, entry.Revision())
		user, id, valid := parseKey(entry.Key())
		switch {
		case entry.Operation() != jetstream.KeyValuePut:
			r.markers = append(r.markers, marker{entry.Key(), entry.Revision(), entry.Created()})
		case valid && user != "":
			users[user] = entryOf(entry)
		case valid:
			ids[id] = entryOf(entry)
		}
	}
	r.mu.Lock()
	before := [2]map[string]revoked{r.users, r.ids}
	r.users, r.ids, r.seen = users, ids, last
	r.mark()
	r.mu.Unlock()
	for user, one := range users {
		if !before[0][user].at.Equal(one.at) {
			r.o.OnRevoked(Revocation{User: user, RevokedAt: one.at})
		}
	}
	for id, one := range ids {
		if !before[1][id].at.Equal(one.at) {
			r.o.OnRevoked(Revocation{ID: id, RevokedAt: one.at})
		}
	}
	return nil
}

// apply takes in a change that was heard.
func (r *Revocations) apply(entry jetstream.KeyValueEntry) {
	if entry.Operation() == jetstream.KeyValuePut {
		r.put(entry.Key(), entryOf(entry))
		return
	}
	r.markers = append(r.markers, marker{entry.Key(), entry.Revision(), entry.Created()})
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen = max(r.seen, entry.Revision())
	user, id, _ := parseKey(entry.Key())
	for in, name := range map[*map[string]revoked]string{&r.users: user, &r.ids: id} {
		if (*in)[name].seq < entry.Revision() {
			delete(*in, name)
		}
	}
	r.mark()
}

func (r *Revocations) put(key string, one revoked) {
	user, id, valid := parseKey(key)
	r.mu.Lock()
	r.seen = max(r.seen, one.seq)
	in := r.users
	if user == "" {
		in = r.ids
	}
	isNew := valid && in[user+id].seq < one.seq
	if isNew {
		in[user+id] = one
	}
	r.mark()
	r.mu.Unlock()
	if isNew {
		r.o.OnRevoked(Revocation{user, id, one.at})
	}
}

// mark tells those who wait that something has changed. The lock is held.
func (r *Revocations) mark() {
	close(r.changed)
	r.changed = make(chan struct{})
}

// await waits a little until something holds.
func (r *Revocations) await(ctx context.Context, holds func() bool) bool {
	ctx, cancel := context.WithTimeout(ctx, revokeWait)
	defer cancel()
	for {
		r.mu.RLock()
		changed := r.changed
		r.mu.RUnlock()
		if holds() {
			return true
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}

func (r *Revocations) find(in *map[string]revoked, name string) (revoked, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	one, ok := (*in)[name]
	return one, ok
}

// tidy deletes what has nothing left to refuse, and what says that something was lifted once everybody has heard it.
func (r *Revocations) tidy(ctx context.Context) {
	over := make(map[string]uint64) // sequences by key
	r.markers = slices.DeleteFunc(r.markers, func(m marker) bool {
		old := time.Since(m.at) > markerAge
		if old {
			over[m.key] = m.seq
		}
		return old
	})
	if r.o.MaxAge > 0 {
		r.mu.Lock()
		for _, in := range []*map[string]revoked{&r.users, &r.ids} {
			maps.DeleteFunc(*in, func(name string, one revoked) bool {
				old := time.Since(one.at) > r.o.MaxAge+expiryMargin
				if old {
					user, id := name, ""
					if in == &r.ids {
						user, id = "", name
					}
					key, _ := r.place(user, id)
					over[key] = one.seq
				}
				return old
			})
		}
		r.mu.Unlock()
	}
	for key, seq := range over {
		// What was written in its place since has a later sequence, and stays.
		err := r.stream.Purge(ctx, jetstream.WithPurgeSubject("$KV."+revokedBucket+"."+key), jetstream.WithPurgeSequence(seq+1))
		if err != nil { // it is found again when the bucket is read anew
			r.o.Logger.Debug("revocation not deleted", "sequence", seq, "err", err)
		}
	}
}

// CheckRevocable returns a [jobs.InvalidError] unless a user, or a jti, and not both, can be revoked.
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

// place returns the key of a user, or of a jti, and the map it is in.
func (r *Revocations) place(user, id string) (key string, in *map[string]revoked) {
	// Any text is a user or a jti, and few are keys.
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

// entryOf reads an entry. One that cannot be read counts from when it was stored.
func entryOf(entry jetstream.KeyValueEntry) revoked {
	at, err := time.Parse(time.RFC3339Nano, string(entry.Value()))
	if err != nil {
		at = entry.Created()
	}
	return revoked{at.UTC(), entry.Revision()}
}
