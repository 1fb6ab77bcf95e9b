package joblog

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Bucket is one of hark's key-value buckets. A bucket that was deleted or lost is created again, empty, by the first call
// that notices. Each call blocks for a round trip, or for about a second and some round trips if it creates the bucket.
type Bucket struct {
	kv     jetstream.KeyValue
	stream *keptStream
}

// TicketTTL is how long a ticket is valid.
const TicketTTL = 30 * time.Second

// kindsConfig returns the configuration of the bucket of kinds.
func kindsConfig(ns Namespace) jetstream.KeyValueConfig {
	return jetstream.KeyValueConfig{Bucket: ns.KindsBucket(), Description: "hark: the kinds that workers run"}
}

// TicketsConfig returns the configuration of the bucket of tickets.
func TicketsConfig(ns Namespace) jetstream.KeyValueConfig {
	return jetstream.KeyValueConfig{Bucket: ns.TicketsBucket(), Description: "hark: one-use tickets for event streams", TTL: TicketTTL}
}

// RevokedConfig returns the configuration of the bucket of revocations.
func RevokedConfig(ns Namespace) jetstream.KeyValueConfig {
	return jetstream.KeyValueConfig{Bucket: ns.RevokedBucket(), Description: "hark: users and tokens that were revoked"}
}

// LinkConfig returns the configuration of the bucket of the key of links.
func LinkConfig(ns Namespace) jetstream.KeyValueConfig {
	return jetstream.KeyValueConfig{Bucket: ns.LinkBucket(), Description: "hark: the key of links to files"}
}

// bucketConfigs returns the configurations of all key-value buckets.
func bucketConfigs(ns Namespace) []jetstream.KeyValueConfig {
	return []jetstream.KeyValueConfig{kindsConfig(ns), TicketsConfig(ns), RevokedConfig(ns), LinkConfig(ns)}
}

// BindBucket returns the key-value bucket that config names, and creates it if it is missing, with the description, time to
// live and storage of config, and the replicas of the log. It never changes an existing bucket. It blocks for two or three
// round trips. Lost says in a few words what is lost with the bucket, for the log.
//
// Values are read from the leader: hark's buckets have no direct gets, which a lagging replica may answer.
func (q *Store) BindBucket(ctx context.Context, config jetstream.KeyValueConfig, lost string) (*Bucket, error) {
	config.Replicas = int(q.replicas.Load())
	kv, err := bindBucket(ctx, q.js, config)
	if err != nil {
		return nil, err
	}
	stream, err := q.js.Stream(ctx, BucketStream(config.Bucket))
	if err != nil {
		return nil, fmt.Errorf("bucket %s: %w", config.Bucket, err)
	}
	return &Bucket{kv, q.keepBucket(stream, lost)}, nil
}

// Get returns the entry of a key, or [jetstream.ErrKeyNotFound].
func (b *Bucket) Get(ctx context.Context, key string) (jetstream.KeyValueEntry, error) {
	return again(ctx, b.stream, func() (jetstream.KeyValueEntry, error) {
		return tries(ctx, b.stream.store.nc, func(ctx context.Context) (jetstream.KeyValueEntry, error) { return b.kv.Get(ctx, key) })
	})
}

// Put sets the value of a key and returns its revision.
func (b *Bucket) Put(ctx context.Context, key string, value []byte) (uint64, error) {
	return again(ctx, b.stream, func() (uint64, error) { return b.kv.Put(ctx, key, value) })
}

// Create sets the value of a key that has none, or returns [jetstream.ErrKeyExists].
func (b *Bucket) Create(ctx context.Context, key string, value []byte) (uint64, error) {
	return again(ctx, b.stream, func() (uint64, error) { return b.kv.Create(ctx, key, value) })
}

// Update sets the value of a key that still has this revision.
func (b *Bucket) Update(ctx context.Context, key string, value []byte, revision uint64) (uint64, error) {
	return again(ctx, b.stream, func() (uint64, error) { return b.kv.Update(ctx, key, value, revision) })
}

// Delete deletes a key.
func (b *Bucket) Delete(ctx context.Context, key string, opts ...jetstream.KVDeleteOpt) error {
	_, err := again(ctx, b.stream, func() (struct{}, error) { return struct{}{}, b.kv.Delete(ctx, key, opts...) })
	return err
}

// Keys returns all keys, or [jetstream.ErrNoKeysFound].
func (b *Bucket) Keys(ctx context.Context) ([]string, error) {
	return again(ctx, b.stream, func() ([]string, error) { return b.kv.Keys(ctx) })
}

// WatchAll watches all keys: first their values, then nil, then changes.
func (b *Bucket) WatchAll(ctx context.Context) (jetstream.KeyWatcher, error) {
	return again(ctx, b.stream, func() (jetstream.KeyWatcher, error) { return b.kv.WatchAll(ctx) })
}

// Info returns the info of the bucket's stream.
func (b *Bucket) Info(ctx context.Context) (*jetstream.StreamInfo, error) { return b.stream.Info(ctx) }

// PurgeUpTo removes what is stored under a key up to and including a sequence.
func (b *Bucket) PurgeUpTo(ctx context.Context, key string, seq uint64) error {
	return b.stream.Purge(ctx, jetstream.WithPurgeSubject(KeySubject(b.kv.Bucket(), key)), jetstream.WithPurgeSequence(seq+1))
}
