package joblog

import (
	"encoding/base64"
	"encoding/binary"
	"slices"

	"github.com/nats-io/nats.go/jetstream"
)

// chunkIndex holds the positions of a file's chunks in the stream. Files that are stored at the same time interleave their
// chunks, so the sequences cannot be computed.
type chunkIndex struct {
	runs  []chunkRun // in order
	whole bool       // it has all chunks; each but the last is of chunkSize
}

// chunkRun is a run of consecutive chunks of a file in the stream.
type chunkRun struct {
	at  int64  // offset of the first chunk in the file
	seq uint64 // sequence of the first chunk
	n   int64  // number of chunks
}

// find returns the chunk that holds the byte at offset want, or the last known chunk before it.
func (x *chunkIndex) find(want int64) (at int64, seq uint64, known bool) {
	i, exact := slices.BinarySearchFunc(x.runs, want, func(r chunkRun, want int64) int {
		switch {
		case r.at < want:
			return -1
		case r.at > want:
			return 1
		}
		return 0
	})
	if !exact {
		i--
	}
	if i < 0 {
		return 0, 0, false
	}
	r := x.runs[i]
	if !x.whole {
		return r.at, r.seq, true
	}
	k := min((want-r.at)/chunkSize, r.n-1)
	return r.at + k*chunkSize, r.seq + uint64(k), true
}

// learnEvery is the least distance in bytes between two chunks that learn adds, so that a file of tiny chunks has a small
// index.
const learnEvery = chunksAhead * chunkSize

// learn adds a chunk that was read. It does nothing if the index has all chunks.
func (x *chunkIndex) learn(at int64, seq uint64) {
	if !x.whole && (len(x.runs) == 0 || at >= x.runs[len(x.runs)-1].at+learnEvery) {
		x.runs = append(x.runs, chunkRun{at: at, seq: seq, n: 1})
	}
}

// add adds the next chunk of a file that is being stored.
func (x *chunkIndex) add(seq uint64) {
	if len(x.runs) == 0 {
		x.runs = append(x.runs, chunkRun{seq: seq, n: 1})
		return
	}
	if last := &x.runs[len(x.runs)-1]; seq == last.seq+uint64(last.n) {
		last.n++
	} else if len(x.runs) <= maxRuns {
		x.runs = append(x.runs, chunkRun{at: last.at + last.n*chunkSize, seq: seq, n: 1})
	}
}

const (
	// indexKey is the metadata key of an object's index: for each run of chunks, the distance of its first sequence from
	// the end of the previous run, and its length, as varints in base64. An object with an index has chunks of chunkSize,
	// except for the last.
	indexKey = "hark-chunks"
	// maxRuns bounds the size of the info message. A file of 2 GiB has no more chunks.
	maxRuns = 16 << 10
)

// encode adds the index to info, unless the index is too large.
func (x *chunkIndex) encode(info *jetstream.ObjectInfo) {
	if len(x.runs) > maxRuns {
		return
	}
	var text []byte
	end := uint64(0)
	for _, r := range x.runs {
		text = binary.AppendUvarint(text, r.seq-end)
		text = binary.AppendUvarint(text, uint64(r.n))
		end = r.seq + uint64(r.n)
	}
	info.Metadata = map[string]string{indexKey: base64.RawStdEncoding.EncodeToString(text)}
}

// decodeIndex returns the index of an object, or an empty index if it has none or it is malformed.
func decodeIndex(info *jetstream.ObjectInfo) chunkIndex {
	text, err := base64.RawStdEncoding.DecodeString(info.Metadata[indexKey])
	x := chunkIndex{whole: true}
	var chunks, end uint64
	for err == nil && len(text) > 0 {
		gap, a := binary.Uvarint(text)
		n, b := binary.Uvarint(text[max(a, 0):])
		if a <= 0 || b <= 0 || n == 0 || n > uint64(info.Chunks)-chunks {
			return chunkIndex{}
		}
		text = text[a+b:]
		x.runs = append(x.runs, chunkRun{at: int64(chunks) * chunkSize, seq: end + gap, n: int64(n)})
		chunks += n
		end += gap + n
	}
	if err != nil || chunks == 0 || chunks != uint64(info.Chunks) || chunks != (info.Size+chunkSize-1)/chunkSize {
		return chunkIndex{}
	}
	return x
}
