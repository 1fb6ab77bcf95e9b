package inbox

import (
	"strconv"

	"github.com/hark-jobs/hark/internal/joblog"
	"github.com/hark-jobs/hark/jobs"
)

// The log may have several streams. A user's notifications are in one of them, and each has the broadcasts, with sequences of its
// own. So the inbox has a position for each stream, and the broadcasts of each: a user's inbox has those of the user's stream, and
// all ids in it are of that stream.

// everyoneIn returns the audience of the broadcasts of stream i of n in the tables, which also names the stream's position. It is
// no user's: a user id is valid UTF-8. It stays the same if the log gets more streams.
func everyoneIn(i, n int) []byte {
	if i == 0 {
		return []byte(jobs.Everyone)
	}
	return strconv.AppendInt([]byte(jobs.Everyone+"\xff"), int64(i*joblog.Shards/n), 10)
}

// SetStreams sets the number of streams of the log. It defaults to 1. An [Ingester] sets it, so the call is for a process without
// one. It does not block.
func (s *Store) SetStreams(n int) { s.streams.Store(int32(n)) }

// streamOf returns the number of the stream of a user.
func (s *Store) streamOf(user string) int {
	return joblog.StreamOfToken(joblog.EscapeUser(user), s.streamCount())
}

func (s *Store) streamCount() int { return max(int(s.streams.Load()), 1) }

// everyoneOf returns the audience of the broadcasts that are in a user's inbox.
func (s *Store) everyoneOf(user string) []byte { return everyoneIn(s.streamOf(user), s.streamCount()) }
