package auth

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// How the revocations of a process follow the bucket in NATS.

// Run receives the revocations of other processes until ctx ends. It logs failures, retries, and keeps the revocations that
// it has. It always returns nil.
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

// follow reads the bucket, and unless once is set, watches it until ctx ends or an error occurs.
func (r *Revocations) follow(ctx context.Context, once bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := r.restore(ctx); err != nil {
		return err
	}
	// The watch begins with everything that is stored now.
	last, err := r.fetchLastSeq(ctx)
	if err != nil {
		return err
	}
	watch, err := r.kv.WatchAll(ctx)
	if err != nil {
		return err
	}
	defer func() {
		_ = watch.Stop()
		go func() { // the watcher blocks until its updates are received, and closes the channel in the end
			for range watch.Updates() {
			}
		}()
	}()
	if err := r.readAll(ctx, watch, last); err != nil || once {
		return err
	}
	r.trouble.Over()
	check, cleanup := time.NewTicker(checkPeriod), time.NewTicker(cleanupPeriod)
	defer check.Stop()
	defer cleanup.Stop()
	r.cleanUp(ctx)
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
		case <-check.C:
			// A watch that receives nothing any more reports no error.
			last, err := r.fetchLastSeq(ctx)
			if err != nil {
				return err
			}
			if received := r.lastReceived(); received < due || last < received {
				return fmt.Errorf("the watch has received up to sequence %d, and the bucket ends at %d", received, last)
			}
			due = last
		case <-cleanup.C:
			r.cleanUp(ctx)
		}
	}
}

// restore stores the known revocations in a bucket that was created since the last read. Each keeps its time. A revocation that
// another process has stored there is not changed.
func (r *Revocations) restore(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, restoreTime)
	defer cancel()
	info, err := r.kv.Info(ctx)
	if err != nil {
		return err
	}
	if r.created.IsZero() || info.Created.Equal(r.created) {
		r.created = info.Created
		return nil
	}
	for _, known := range r.List() {
		key, _ := r.place(known.User, known.ID)
		_, err := r.kv.Create(ctx, key, []byte(known.RevokedAt.Format(time.RFC3339Nano)))
		if err != nil && !errors.Is(err, jetstream.ErrKeyExists) {
			return err
		}
	}
	r.created = info.Created
	return nil
}

// fetchLastSeq returns the last sequence of the bucket.
func (r *Revocations) fetchLastSeq(ctx context.Context) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, checkPeriod)
	defer cancel()
	info, err := r.kv.Info(ctx)
	if err != nil {
		return 0, err
	}
	if !info.Created.Equal(r.created) {
		return 0, errRecreated
	}
	return info.State.LastSeq, nil
}

// errRecreated: the bucket was created again while it was followed.
var errRecreated = errors.New("the bucket was created again")

func (r *Revocations) lastReceived() uint64 {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.lastSeq
}

// readAll reads the bucket and replaces the revocations in memory. It calls OnRevoked for new ones.
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
	r.users, r.ids, r.lastSeq = users, ids, last
	r.notifyChangedLocked()
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

// apply applies an entry that the watch has received.
func (r *Revocations) apply(entry jetstream.KeyValueEntry) {
	if entry.Operation() == jetstream.KeyValuePut {
		r.put(entry.Key(), entryOf(entry))
		return
	}
	r.markers = append(r.markers, marker{entry.Key(), entry.Revision(), entry.Created()})
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lastSeq = max(r.lastSeq, entry.Revision())
	user, id, _ := parseKey(entry.Key())
	for in, name := range map[*map[string]revoked]string{&r.users: user, &r.ids: id} {
		if (*in)[name].seq < entry.Revision() {
			delete(*in, name)
		}
	}
	r.notifyChangedLocked()
}

// put adds a revocation, unless there is a newer one, and calls OnRevoked.
func (r *Revocations) put(key string, one revoked) {
	user, id, valid := parseKey(key)
	r.mu.Lock()
	r.lastSeq = max(r.lastSeq, one.seq)
	in := r.users
	if user == "" {
		in = r.ids
	}
	isNew := valid && in[user+id].seq < one.seq
	if isNew {
		in[user+id] = one
	}
	r.notifyChangedLocked()
	r.mu.Unlock()
	if isNew {
		r.o.OnRevoked(Revocation{user, id, one.at})
	}
}

// notifyChangedLocked wakes the callers of await. r.mu must be held.
func (r *Revocations) notifyChangedLocked() {
	close(r.changed)
	r.changed = make(chan struct{})
}

// await blocks until holds returns true, for up to revokeWait. It returns false on a timeout.
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

// cleanUp deletes revocations whose tokens have all expired, and delete markers that all processes have received.
func (r *Revocations) cleanUp(ctx context.Context) {
	expired := make(map[string]uint64) // sequences by key
	r.markers = slices.DeleteFunc(r.markers, func(m marker) bool {
		old := time.Since(m.at) > markerTTL
		if old {
			expired[m.key] = m.seq
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
					expired[key] = one.seq
				}
				return old
			})
		}
		r.mu.Unlock()
	}
	for key, seq := range expired {
		// A newer entry under the key has a later sequence, and is not purged.
		err := r.kv.PurgeUpTo(ctx, key, seq)
		if err != nil { // the next read of the bucket finds it again
			r.o.Logger.Debug("expired revocation not deleted; retrying after the next start or reconnect", "sequence", seq, "err", err)
		}
	}
}
