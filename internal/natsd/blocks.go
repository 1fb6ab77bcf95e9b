package natsd

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/minio/highwayhash"
)

// The server verifies its blocks only while it rebuilds a stream. Then it logs how many bytes it cut off, but not what they
// were. After an orderly stop it does not read the blocks at all. So this package verifies them before the server starts. A
// block (nats-server 2.15, server/filestore.go, writeMsgRecordLocked) is a sequence of records:
//
//	4 bytes length of the record, its highest bit set if the message has headers
//	8 bytes sequence; the two highest bits mark a tombstone and an erased message
//	8 bytes time
//	2 bytes length of the subject
//	        subject, with headers 4 bytes of their length and the headers, message
//	8 bytes HighwayHash of sequence, time, subject, headers and message, with a key derived from stream and block
//
// The sum does not cover the lengths. A wrong length of the record or of the headers is noticed anyway, and one of the subject
// if there are headers.
//
// Compressed and encrypted blocks, which hark does not use, are skipped.
const (
	recordHead   = 4 + 8 + 8 + 2
	recordSum    = 8
	largestOne   = 32 << 20
	withHeaders  = 1 << 31
	tombstoneBit = 1 << 62
	erasedBit    = 1 << 63
)

// record is one record of a block.
type record struct {
	size    int
	seq     uint64 // without the two highest bits
	subject string // empty for a tombstone
}

var errShort = errors.New("the file ends inside it")
var errDamaged = errors.New("its checksum is wrong")

// readRecord reads the record at the start of buf. With an error the record has what the bytes say, if that is plausible. The
// error is errShort if buf ends before the record.
func readRecord(buf []byte, sum hash.Hash) (r record, err error) {
	if len(buf) < recordHead {
		return r, errShort
	}
	length, subject := binary.LittleEndian.Uint32(buf), int(binary.LittleEndian.Uint16(buf[20:]))
	headers := length&withHeaders != 0
	r.size = int(length &^ withHeaders)
	text := recordHead + subject // the start of the headers or the message
	if headers {
		text += 4
	}
	if r.size > largestOne || text+recordSum > r.size {
		return record{}, errDamaged
	}
	if r.size > len(buf) {
		return r, errShort
	}
	r.seq = binary.LittleEndian.Uint64(buf[4:]) &^ (tombstoneBit | erasedBit)
	r.subject = string(buf[recordHead : recordHead+subject])
	sum.Reset()
	sum.Write(buf[4:20])
	sum.Write(buf[recordHead : recordHead+subject])
	sum.Write(buf[text : r.size-recordSum])
	if !bytes.Equal(sum.Sum(nil), buf[r.size-recordSum:r.size]) {
		return r, errDamaged
	}
	if headers && !headersFit(buf[text-4:r.size-recordSum]) {
		return r, errDamaged
	}
	return r, nil
}

// headersFit reports whether the length of the headers, which the sum does not cover, is right.
func headersFit(b []byte) bool {
	const end = "\r\n\r\n"
	n := int(binary.LittleEndian.Uint32(b))
	return n >= len(end) && n <= len(b)-4 && string(b[4+n-len(end):4+n]) == end
}

// plausible reports whether buf may begin with a record. It costs less than readRecord.
func plausible(buf []byte) bool {
	if len(buf) < recordHead {
		return false
	}
	size, subject := int(binary.LittleEndian.Uint32(buf)&^uint32(withHeaders)), int(binary.LittleEndian.Uint16(buf[20:]))
	if size > len(buf) || size < recordHead+subject+recordSum {
		return false
	}
	return !slices.ContainsFunc(buf[recordHead:recordHead+subject], func(c byte) bool { return c <= ' ' || c == 0x7f })
}

// block is the result of verifying a block.
type block struct {
	last    uint64 // the greatest sequence
	damaged []Loss
	// torn is the number of bytes of an incomplete record at the end.
	torn int
}

func blockSum(stream string, index int) hash.Hash {
	return sumOf(fmt.Sprintf("%s-%d", stream, index))
}

func sumOf(name string) hash.Hash {
	key := sha256.Sum256([]byte(name))
	sum, err := highwayhash.New64(key[:])
	if err != nil {
		panic(err) // the key has 32 bytes
	}
	return sum
}

// readBlock verifies a block. newest says that it is the last block, whose last record may be incomplete.
func readBlock(buf []byte, stream, file string, sum hash.Hash, newest bool) (b block) {
	var before uint64 // the sequence of the message before the damage
	for pos := 0; pos < len(buf); {
		r, err := readRecord(buf[pos:], sum)
		if err == nil {
			b.last = max(b.last, r.seq)
			if r.subject != "" {
				before = r.seq // a tombstone has the sequence of any earlier message
			}
			pos += r.size
			continue
		}
		next := pos + 1
		for next < len(buf) {
			if plausible(buf[next:]) {
				if _, err := readRecord(buf[next:], sum); err == nil {
					break
				}
			}
			next++
		}
		if next == len(buf) && newest && errors.Is(err, errShort) {
			b.torn = len(buf) - pos
			return b
		}
		b.damaged = append(b.damaged, damage(buf, stream, file, pos, next, before, r, sum))
		pos = next
	}
	return b
}

// damage returns the loss of the bytes between pos and next.
func damage(buf []byte, stream, file string, pos, next int, before uint64, r record, sum hash.Hash) Loss {
	following, after := 0, uint64(0)
	for at := next; at < len(buf); {
		good, err := readRecord(buf[at:], sum)
		if err != nil {
			break
		}
		if after == 0 && good.subject != "" {
			after = good.seq
		}
		following, at = following+1, at+good.size
	}
	detail := fmt.Sprintf("%d bytes at %d cannot be read; they are after message %d", next-pos, pos, before)
	if after > before {
		detail += fmt.Sprintf(" and before message %d", after)
	}
	if plausible(buf[pos:]) && r.subject != "" {
		detail += "; one was "
		if before < r.seq && r.seq < after { // otherwise the number may be what is damaged
			detail += fmt.Sprintf("message %d ", r.seq)
		}
		detail += fmt.Sprintf("on %q", r.subject)
	}
	if following > 0 {
		detail += fmt.Sprintf("; %d later messages in this file are lost, too, if the server rebuilds it", following)
	}
	return Loss{Reason: Damaged, Stream: stream, File: file, Detail: detail, Certain: true, Place: pos, Bytes: next - pos}
}

// survey is the result of verifying the folder of a server that does not run.
type survey struct {
	last   map[string]uint64 // by stream: the greatest sequence in its blocks
	losses []Loss
	sizes  map[string]int64 // of all blocks, by their paths in the folder
	torn   []string         // blocks whose last record is incomplete
	bytes  int64
}

// verify verifies everything in the folder. It reads each file once.
func verify(dir string) (s survey, err error) {
	s.last, s.sizes = map[string]uint64{}, map[string]int64{}
	folders, err := streamFolders(dir)
	if err != nil {
		return s, err
	}
	for _, folder := range folders {
		stream := filepath.Base(folder)
		s.description(dir, folder, stream, sumOf(stream))
		consumers, err := names(filepath.Join(folder, "obs"))
		if err != nil {
			return s, err
		}
		for _, name := range consumers {
			s.description(dir, filepath.Join(folder, "obs", name), stream, sumOf(stream+"/"+name))
		}
		if err := s.blocks(dir, folder, stream); err != nil {
			return s, err
		}
	}
	return s, nil
}

// description verifies the description of a stream or a consumer. The server skips a stream or consumer whose description it
// cannot read.
func (s *survey) description(dir, folder, stream string, sum hash.Hash) {
	path := filepath.Join(folder, "meta.inf")
	text, err := os.ReadFile(path)
	if err == nil {
		var want []byte
		if want, err = os.ReadFile(filepath.Join(folder, "meta.sum")); err == nil {
			sum.Write(text)
			if hex.EncodeToString(sum.Sum(nil)) == string(want) {
				return
			}
			err = errDamaged
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return // it is being created or deleted; missing streams are noticed elsewhere
	}
	if _, err := os.Stat(filepath.Join(folder, "meta.key")); err == nil {
		return // encrypted
	}
	file, _ := filepath.Rel(dir, path)
	s.losses = append(s.losses, Loss{Reason: Damaged, Stream: stream, File: file, Certain: true,
		Detail: fmt.Sprintf("the description cannot be read (%v); the server skips what it describes", err)})
}

// blocks verifies the blocks of a stream.
func (s *survey) blocks(dir, folder, stream string) error {
	// An unfinished purge or replacement: the server completes it before it reads the blocks.
	for _, other := range []string{"__msgs__", "__new_msgs__"} {
		if _, err := os.Stat(filepath.Join(folder, other)); err == nil {
			return nil
		}
	}
	indexes, err := blockIndexes(folder)
	if err != nil {
		return err
	}
	last, plain := uint64(0), true
	for i, index := range indexes {
		path := blockPath(folder, index)
		file, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		buf, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("natsd: %w", err)
		}
		s.sizes[file], s.bytes = int64(len(buf)), s.bytes+int64(len(buf))
		if _, err := os.Stat(strings.TrimSuffix(path, ".blk") + ".key"); err == nil || bytes.HasPrefix(buf, []byte("cmp\x01")) {
			plain = false
			continue
		}
		b := readBlock(buf, stream, file, blockSum(stream, index), i == len(indexes)-1)
		last = max(last, b.last)
		s.losses = append(s.losses, b.damaged...)
		if b.torn > 0 {
			s.torn = append(s.torn, file)
		}
	}
	if plain && len(indexes) > 0 {
		s.last[stream] = last
	}
	return nil
}
