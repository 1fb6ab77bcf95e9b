package joblog

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"strconv"
	"sync"

	"github.com/hark-jobs/hark/jobs"
	"github.com/nats-io/nats.go/jetstream"
)

// The log is one stream or several, a power of two. Each has as many consecutive shards, and is named after its first one:
// with four, hark_log has the shards 00 to 15, hark_log_16 those from 16 to 31, and so on. So a stream keeps its name and
// its first shard when there are more streams later. The metadata of the first one says how many there are.
//
// A user lives in one stream. Broadcasts are stored in each.

// streamsKey is the key in the metadata of the log's streams for their number. It is absent if there is one.
const streamsKey = "hark.streams"

// validStreams reports whether the log can have n streams.
func validStreams(n int) bool { return n > 0 && n <= Shards && bits.OnesCount(uint(n)) == 1 }

// StreamsIn returns the number of streams of the log from the metadata of one of them.
func StreamsIn(metadata map[string]string) int {
	n, err := strconv.Atoi(metadata[streamsKey])
	if err != nil || !validStreams(n) {
		return 1
	}
	return n
}

func streamsIn(config *jetstream.StreamConfig) int { return StreamsIn(config.Metadata) }

// firstShard returns the first shard of stream i of n.
func firstShard(i, n int) string { return shards[i*Shards/n] }

// LogStreams returns the names of the streams of jobs, states and notifications, if there are n of them. The first is
// [Namespace.LogStream].
func (ns Namespace) LogStreams(n int) []string {
	names := []string{ns.LogStream()}
	for i := 1; i < n; i++ {
		names = append(names, ns.LogStream()+"_"+firstShard(i, n))
	}
	return names
}

// IsLogStream reports whether a stream is one of the log, however many there are.
func (ns Namespace) IsLogStream(name string) bool {
	return slices.Contains(ns.LogStreams(Shards), name)
}

// BroadcastSubject returns the subject of the broadcasts that stream i of n stores.
func (ns Namespace) BroadcastSubject(i, n int) string {
	return string(ns) + logPart + firstShard(i, n) + "." + jobs.Everyone + ".notification"
}

// LiveBroadcastSubject returns the live subject of what stream i of n stores for everyone.
func (ns Namespace) LiveBroadcastSubject(i, n int) string {
	return string(ns) + livePart + firstShard(i, n) + "." + jobs.Everyone + ".>"
}

// streamSubjects returns the subjects of stream i of n.
func (ns Namespace) streamSubjects(i, n int) []string {
	if n == 1 {
		return []string{ns.LogSubjects()}
	}
	var subjects []string
	for _, shard := range shards[i*Shards/n : (i+1)*Shards/n] {
		subjects = append(subjects, string(ns)+logPart+shard+".>")
	}
	return subjects
}

// streams returns the streams of the log.
func (q *Store) streams() []*keptStream { return *q.log.Load() }

// Streams returns the number of streams of the log, as last known: 1 or a greater power of two. It changes only while the
// log is empty, with a new epoch. It does not block.
func (q *Store) Streams() int { return len(q.streams()) }

// StreamOf returns the number of the stream that has the user's jobs and notifications, from 0 on. It does not block.
func (q *Store) StreamOf(user string) int { return StreamOfToken(EscapeUser(user), q.Streams()) }

// StreamOfToken returns the number of the stream that has the messages of a user, by the token in the user's subjects, if the
// log has n streams. It does not allocate.
func StreamOfToken(token string, n int) int {
	if n == 1 {
		return 0
	}
	return shardNumber(token) * n / Shards
}

// StreamOfSubject returns the number of the stream of a stored or live subject, if the log has n streams. It does not
// allocate. For a subject without a shard it returns 0.
func StreamOfSubject(subject string, n int) int {
	if n == 1 {
		return 0
	}
	shard, _, _ := splitSubject(subject)
	number, err := strconv.Atoi(shard)
	if err != nil || number < 0 || number >= Shards {
		return 0
	}
	return number * n / Shards
}

// streamFor returns the stream that has the user's jobs and notifications.
func (q *Store) streamFor(user string) *keptStream {
	all := q.streams()
	return all[StreamOfToken(EscapeUser(user), len(all))]
}

// streamOfSubject returns the stream of a stored subject.
func (q *Store) streamOfSubject(subject string) *keptStream {
	all := q.streams()
	return all[StreamOfSubject(subject, len(all))]
}

// ErrSpread is returned for the number of a stream that the log does not have any more.
var ErrSpread = errors.New("joblog: the log has another number of streams now")

// stream returns a stream by its number.
func (q *Store) stream(i int) (*keptStream, error) {
	all := q.streams()
	if i < 0 || i >= len(all) {
		return nil, ErrSpread
	}
	return all[i], nil
}

// ParseSubject is the function [ParseSubject] for a subject of this log: the shard of what is for everyone must be the
// first one of a stream. It does not allocate.
func (q *Store) ParseSubject(subject string) (user string, class Class, ok bool) {
	shard, user, class := splitSubject(subject)
	if class == "" || user == "" {
		return "", "", false
	}
	if user != jobs.Everyone {
		return user, class, shard == Shard(user)
	}
	for i, n := 0, q.Streams(); i < n; i++ {
		if shard == firstShard(i, n) {
			return user, class, true
		}
	}
	return "", "", false
}

// errCodeOverlap is the server's JSStreamSubjectOverlapErr.
const errCodeOverlap = 10065

// bindLog returns the streams of the log, and creates those that are missing. What exists decides how many there are.
func bindLog(ctx context.Context, js jetstream.JetStream, ns Namespace, s Settings) ([]jetstream.Stream, error) {
	first, err := bindStream(ctx, js, ns, s, 0, s.Streams)
	var api *jetstream.APIError
	if errors.As(err, &api) && api.ErrorCode == errCodeOverlap {
		// The first stream was lost, and another one exists. With two streams or more there is one that begins in the middle.
		middle, findErr := untilAnswered(ctx, func(ctx context.Context) (jetstream.Stream, error) { return js.Stream(ctx, ns.LogStreams(2)[1]) })
		if findErr != nil {
			return nil, errors.Join(err, findErr)
		}
		first, err = bindStream(ctx, js, ns, s, 0, streamsIn(&middle.CachedInfo().Config))
	}
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w", ns.LogStream(), err)
	}
	config := &first.CachedInfo().Config
	n := streamsIn(config)
	found := []jetstream.Stream{first}
	s = Settings{MaxAge: config.MaxAge, Replicas: config.Replicas, Lease: leaseOf(config)}.or(s)
	for i, name := range ns.LogStreams(n)[1:] {
		stream, err := bindStream(ctx, js, ns, s, i+1, n)
		if err != nil {
			return nil, fmt.Errorf("stream %s: %w", name, err)
		}
		found = append(found, stream)
	}
	return found, nil
}

// openLog binds to the streams of the log, and returns the configuration of the first.
func (q *Store) openLog(ctx context.Context, create Settings) (*jetstream.StreamConfig, error) {
	found, err := bindLog(ctx, q.js, q.ns, create)
	if err != nil {
		return nil, fmt.Errorf("joblog: %w", err)
	}
	kept := make([]*keptStream, len(found))
	for i, stream := range found {
		if err := checkStream(q.ns, &stream.CachedInfo().Config, i, len(found)); err != nil {
			return nil, err
		}
		kept[i] = q.newLogStream(stream, i, len(found))
	}
	q.log.Store(&kept)
	for _, k := range kept {
		k.remember(k.CachedInfo())
	}
	return &found[0].CachedInfo().Config, nil
}

// learnFrom takes the epoch of the log from the info of one of its streams, and from that of the first one the replicas and
// the number of streams.
func (q *Store) learnFrom(info *jetstream.StreamInfo) {
	q.learn(epochOf(info))
	if info.Config.Name != q.ns.LogStream() {
		return
	}
	q.replicas.Store(int64(info.Config.Replicas))
	if n := streamsIn(&info.Config); n != q.Streams() && q.spreading.CompareAndSwap(false, true) {
		if !q.goRestore(func() { q.spread(n) }) {
			q.spreading.Store(false)
		}
	}
}

// spread binds to the streams of the log again, after their number was changed. If that fails, the next info of the first
// stream leads here again.
func (q *Store) spread(n int) {
	defer q.spreading.Store(false)
	ctx, cancel := context.WithTimeout(q.life, restoreTime)
	defer cancel()
	if _, err := q.openLog(ctx, q.settings.or(defaultSettings)); err != nil {
		q.logger.Error("the number of streams of the log was changed, and binding to them failed; retrying", "streams", n, "err", err)
		return
	}
	q.logger.Info("the log has another number of streams now", "streams", q.Streams())
}

// infos returns the infos of all streams of the log. It blocks for one round trip.
func (q *Store) infos(ctx context.Context) ([]*jetstream.StreamInfo, error) {
	all := q.streams()
	infos, errs := make([]*jetstream.StreamInfo, len(all)), make([]error, len(all))
	var running sync.WaitGroup
	for i, k := range all[1:] {
		running.Go(func() { infos[i+1], errs[i+1] = k.Info(ctx) })
	}
	infos[0], errs[0] = all[0].Info(ctx)
	running.Wait()
	for i, err := range errs {
		if err != nil {
			return nil, fmt.Errorf("joblog: info of the stream %s: %w", all[i].name, err)
		}
	}
	return infos, nil
}
