package jobs

import (
	"encoding/base64"
	"encoding/binary"
	"slices"

	"github.com/nats-io/nats.go/jetstream"
)

// chunkIndex says where in the stream the chunks of a file are. Chunks of several files that are stored at a time stand
// between each other, so their sequences cannot be computed.
type chunkIndex struct {
	runs  []chunkRun // in order
	whole bool       // it has all chunks; each but the last is of chunkSize
}

// chunkRun is some chunks of a file with nothing between them in the stream.
type chunkRun struct {
	at  int64  // where the first begins in the file
	seq uint64 // of the first
	n   int64
}

// find returns the chunk that has the byte at want, or the last known one before it.
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

// learnEvery is how far apart the chunks are that learn remembers, so that the index of a file with the smallest of
// chunks takes little.
const learnEvery = chunkPage * chunkSize

// learn takes in a chunk that was read, of a file without an index of all chunks.
func (x *chunkIndex) learn(at int64, seq uint64) {
	if !x.whole && (len(x.runs) == 0 || at >= x.runs[len(x.runs)-1].at+learnEvery) {
		x.runs = append(x.runs, chunkRun{at: at, seq: seq, n: 1})
	}
}

// add takes in the next chunk of a file that is being stored.
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
	// indexKey is where the info of an object has its index, among its metadata: of each run of chunks in turn, how far
	// its first sequence is from the end of the run before it, and its length, as varints in base64. It says, too, that
	// all chunks but the last are of chunkSize.
	indexKey = "hark-chunks"
	// maxRuns bounds the info to a part of what a message may have. A file of 2 GiB has no more chunks.
	maxRuns = 16 << 10
)

// encode enters the index into info; one that has become too large is left out.
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

// decodeIndex returns the index of an object, empty if it has none that can be read.
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
