package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// kindFresh is how long a kind that was read is believed before it is read again.
const kindFresh = time.Second

// kindCache keeps the kinds that were asked for lately, so that not every enqueue reads its kind.
type kindCache struct {
	bucket jetstream.KeyValue
	mu     sync.Mutex
	kinds  map[string]cachedKind
	all    []*Kind // as they were listed
	listed time.Time
}

type cachedKind struct {
	kind *Kind
	read time.Time
}

func bindKinds(ctx context.Context, js jetstream.JetStream, s Settings) (jetstream.KeyValue, error) {
	return BindBucket(ctx, js, jetstream.KeyValueConfig{
		Bucket: kindsBucket, Description: "hark: the kinds that workers run", Replicas: s.Replicas,
	})
}

// PublishKind makes a kind known, so that jobs of it can be enqueued: by this queue at once, by others
// within a second.
func (q *Queue) PublishKind(ctx context.Context, kind Kind) error {
	if err := CheckKind(kind.Name); err != nil {
		return err
	}
	body, err := json.Marshal(kind)
	if err != nil {
		return fmt.Errorf("jobs: publish kind: %w", err)
	}
	if _, err := q.kinds.bucket.Put(ctx, kind.Name, body); err != nil {
		return fmt.Errorf("jobs: publish kind: %w", err)
	}
	q.kinds.mu.Lock()
	delete(q.kinds.kinds, kind.Name)
	q.kinds.all = nil
	q.kinds.mu.Unlock()
	return nil
}

// Kind returns a published kind, or [ErrKindUnknown]. The caller must not change it.
func (q *Queue) Kind(ctx context.Context, name string) (*Kind, error) {
	q.kinds.mu.Lock()
	cached, ok := q.kinds.kinds[name]
	q.kinds.mu.Unlock()
	if ok && time.Since(cached.read) < kindFresh {
		return cached.kind, nil
	}
	if CheckKind(name) != nil {
		return nil, ErrKindUnknown
	}
	ctx, cancel := withTimeout(ctx)
	defer cancel()
	entry, err := q.kinds.bucket.Get(ctx, name)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil, ErrKindUnknown
	}
	if err != nil {
		return nil, fmt.Errorf("jobs: kind: %w", err)
	}
	kind := new(Kind)
	if err := json.Unmarshal(entry.Value(), kind); err != nil {
		return nil, fmt.Errorf("jobs: kind %s: %w", name, err)
	}
	q.kinds.mu.Lock()
	q.kinds.kinds[name] = cachedKind{kind, time.Now()}
	q.kinds.mu.Unlock()
	return kind, nil
}

// Kinds returns all published kinds, by name, as they were within the last two seconds: the server makes a consumer to list
// them, which is not for every call. The caller must not change them.
func (q *Queue) Kinds(ctx context.Context) ([]*Kind, error) {
	q.kinds.mu.Lock()
	all, listed := slices.Clone(q.kinds.all), q.kinds.listed
	q.kinds.mu.Unlock()
	if all != nil && time.Since(listed) < kindFresh {
		return all, nil
	}
	begun := time.Now()
	ctx, cancel := withTimeout(ctx)
	defer cancel()
	names, err := q.kinds.bucket.Keys(ctx)
	if err != nil && !errors.Is(err, jetstream.ErrNoKeysFound) {
		return nil, fmt.Errorf("jobs: kinds: %w", err)
	}
	slices.SortFunc(names, strings.Compare)
	kinds := make([]*Kind, 0, len(names))
	for _, name := range names {
		kind, err := q.Kind(ctx, name)
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
