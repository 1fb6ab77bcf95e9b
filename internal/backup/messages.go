package backup

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"os"
	"slices"
	"time"

	"github.com/klauspost/compress/s2"
	"github.com/nats-io/nats-server/v2/server/archive"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// A file of messages is an archive like those in nats-server's snapshots, compressed with S2, which has checksums. It has an
// entry per message, and an empty entry at the end; without that it is incomplete.

// messageWriter writes a file of messages.
type messageWriter struct {
	file    *os.File
	hash    hash.Hash
	s2      *s2.Writer
	archive *archive.Writer

	messages, bytes   uint64
	firstSeq, lastSeq uint64
}

func createMessages(path string) (*messageWriter, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	w := &messageWriter{file: f, hash: sha256.New()}
	w.s2 = s2.NewWriter(io.MultiWriter(f, w.hash))
	w.archive = archive.NewWriter(w.s2)
	return w, nil
}

func (w *messageWriter) write(subject string, seq uint64, stored time.Time, header nats.Header, data []byte) error {
	h := encodeHeader(header)
	err := w.archive.WriteHeader(&archive.Header{Name: subject, Sequence: seq, Timestamp: stored.UnixNano(),
		HeaderSize: int64(len(h)), PayloadSize: int64(len(data))})
	if err == nil {
		_, err = w.archive.Write(h)
	}
	if err == nil {
		_, err = w.archive.Write(data)
	}
	if w.messages == 0 {
		w.firstSeq = seq
	}
	w.messages++
	w.lastSeq = seq
	w.bytes += uint64(len(subject) + len(h) + len(data))
	return err
}

// close completes, syncs and closes the file.
func (w *messageWriter) close() (size int64, sum string, err error) {
	err = errors.Join(w.archive.WriteHeader(&archive.Header{}), w.archive.Close(), w.s2.Close(), w.file.Sync())
	if err == nil {
		size, err = w.file.Seek(0, io.SeekCurrent)
	}
	err = errors.Join(err, w.file.Close())
	return size, hex.EncodeToString(w.hash.Sum(nil)), err
}

// abort closes the file. It does nothing after close.
func (w *messageWriter) abort() {
	_ = w.file.Close()
}

// encodeHeader encodes a header in the form of a message, with sorted keys.
func encodeHeader(header nats.Header) []byte {
	if len(header) == 0 {
		return nil
	}
	keys := make([]string, 0, len(header))
	for key := range header {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	var b bytes.Buffer
	b.WriteString("NATS/1.0\r\n")
	for _, key := range keys {
		for _, value := range header[key] {
			b.WriteString(key + ": " + value + "\r\n")
		}
	}
	b.WriteString("\r\n")
	return b.Bytes()
}

// message is an entry of the file.
type message struct {
	archive.Header
	body []byte // header and data; valid until the next message
}

// replacesOthers reports whether the message is a rollup, which removes all earlier messages of its subject.
func (m *message) replacesOthers() bool {
	line := "\r\n" + jetstream.MsgRollup + ": " + jetstream.MsgRollupSubject + "\r\n"
	return bytes.Contains(m.body[:m.HeaderSize], []byte(line))
}

// readMessages calls each for every message of a file. It returns an error if the file is incomplete.
func readMessages(path string, each func(*message) error) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	r := archive.NewReader(s2.NewReader(bufio.NewReaderSize(f, 1<<20)))
	var m message
	for {
		h, err := r.Next()
		if err == io.EOF {
			err = io.ErrUnexpectedEOF // the last entry is missing
		}
		if err != nil {
			return err
		}
		if h.Sequence == 0 && h.Name == "" {
			return nil
		}
		m.Header = *h
		n := int(h.HeaderSize + h.PayloadSize)
		m.body = slices.Grow(m.body[:0], n)[:n]
		if _, err := io.ReadFull(r, m.body); err != nil {
			return err
		}
		if err := each(&m); err != nil {
			return err
		}
	}
}
