package joblog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hark-jobs/hark/jobs"
	"github.com/nats-io/nats.go/jetstream"
)

// kindCacheTTL is how long a kind is cached.
const kindCacheTTL = time.Second

// kindCache caches kinds, so that not every enqueue reads its kind.
type kindCache struct {
	bucket *Bucket
	mu     sync.Mutex
	kinds  map[string]cachedKind
	all    []*jobs.Kind // the last list
	listed time.Time
}

type cachedKind struct {
	kind *jobs.Kind
	read time.Time
}

// PublishKind publishes a kind, so that jobs of it can be enqueued: through this store at once, through others within a
// second.
func (q *Store) PublishKind(ctx context.Context, kind jobs.Kind) error {
	if err := jobs.CheckKind(kind.Name); err != nil {
		return err
	}
	body, err := json.Marshal(kind)
	if err != nil {
		return fmt.Errorf("joblog: publish kind: %w", err)
	}
	_, err = tries(ctx, q.nc, func(ctx context.Context) (uint64, error) { return q.kinds.bucket.Put(ctx, kind.Name, body) })
	if err != nil {
		return fmt.Errorf("joblog: publish kind: %w", err)
	}
	q.kinds.mu.Lock()
	delete(q.kinds.kinds, kind.Name)
	q.kinds.all = nil
	q.kinds.mu.Unlock()
	return nil
}

// Kind returns a published kind, or [jobs.ErrKindUnknown]. The caller must not change it.
func (q *Store) Kind(ctx context.Context, name string) (*jobs.Kind, error) {
	q.kinds.mu.Lock()
	cached, ok := q.kinds.kinds[name]
	q.kinds.mu.Unlock()
	if ok && time.Since(cached.read) < kindCacheTTL {
		return cached.kind, nil
	}
	if jobs.CheckKind(name) != nil {
		return nil, jobs.ErrKindUnknown
	}
	ctx, cancel := withTimeout(ctx)
	defer cancel()
	entry, err := q.kinds.bucket.Get(ctx, name)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil, jobs.ErrKindUnknown
	}
	if err != nil {
		return nil, fmt.Errorf("joblog: kind: %w", err)
	}
	kind := new(jobs.Kind)
	err = json.Unmarshal(entry.Value(), kind)
	if err == nil && kind.Name != name {
		err = fmt.Errorf("joblog: the key names the kind %s, and the value %.60q", name, kind.Name)
	}
	if err != nil { // its workers publish it again when it is unknown
		q.Skip(SkippedKind, KeySubject(q.ns.KindsBucket(), name), entry.Revision(), err)
		return nil, jobs.ErrKindUnknown
	}
	q.kinds.mu.Lock()
	q.kinds.kinds[name] = cachedKind{kind, time.Now()}
	q.kinds.mu.Unlock()
	return kind, nil
}

// Kinds returns all published kinds, by name, at most two seconds old: the server creates a consumer for each list, so
// lists are cached. The caller must not change them.
func (q *Store) Kinds(ctx context.Context) ([]*jobs.Kind, error) {
	q.kinds.mu.Lock()
	all, listed := slices.Clone(q.kinds.all), q.kinds.listed
	q.kinds.mu.Unlock()
	if all != nil && time.Since(listed) < kindCacheTTL {
		return all, nil
	}
	begun := time.Now()
	ctx, cancel := withTimeout(ctx)
	defer cancel()
	names, err := q.kinds.bucket.Keys(ctx)
	if err != nil && !errors.Is(err, jetstream.ErrNoKeysFound) {
		return nil, fmt.Errorf("joblog: kinds: %w", err)
	}
	slices.SortFunc(names, strings.Compare)
	kinds := make([]*jobs.Kind, 0, len(names))
	for _, name := range names {
		kind, err := q.Kind(ctx, name)
		if errors.Is(err, jobs.ErrKindUnknown) { // it is malformed, or was deleted meanwhile
			continue
		}
		if err != nil {
			return nil, err
		}
		kinds = append(kinds, kind)
	}
	q.kinds.mu.Lock()
	defer q.kinds.mu.Unlock()
	q.kinds.all, q.kinds.listed = slices.Clone(kinds), begun
	return kinds, nil
}
