package joblog

import (
	"fmt"

	"github.com/hark-jobs/hark/jobs"
)

// Shards is the number of shards. It is part of the format of the log.
const Shards = 64

// broadcastShard is the shard of what is stored for everyone in the first stream: its first shard. Each further stream
// stores a broadcast too, in its own first shard, so no two streams have the same subject. See [Namespace.BroadcastSubject].
const broadcastShard = "00"

// shards are the tokens of all shards.
var shards = func() (all [Shards]string) {
	for i := range all {
		all[i] = fmt.Sprintf("%02d", i)
	}
	return all
}()

// Shard returns the shard in the subjects of a user, as two digits: the FNV-1a hash of 32 bits of the bytes of the user's
// token, which [EscapeUser] returns, modulo [Shards]. It is the number of the partition that the NATS server computes for
// the token in a subject mapping. For [jobs.Everyone] it is 00.
func Shard(token string) string {
	if token == jobs.Everyone {
		return broadcastShard
	}
	return shards[shardNumber(token)]
}

func shardNumber(token string) int {
	if token == jobs.Everyone {
		return 0
	}
	const offset, prime = 2166136261, 16777619 // of FNV-1a
	hash := uint32(offset)
	for i := range len(token) {
		hash ^= uint32(token[i])
		hash *= prime
	}
	return int(hash % Shards)
}
