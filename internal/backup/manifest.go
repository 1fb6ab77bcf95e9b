package backup

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/hark-jobs/hark/internal/joblog"
)

// format is the version of the backup's format. A change that an older hark cannot read must increment it.
const format = 1

// manifestName is the file that a complete backup has. It is written last.
const manifestName = "manifest.json"

// manifest describes a backup.
type manifest struct {
	Format int       `json:"format"`
	Began  time.Time `json:"began"`
	Ended  time.Time `json:"ended"`
	Server string    `json:"server"` // the version of the NATS server
	// Namespace begins the names of the streams, and the subjects of their messages.
	Namespace joblog.Namespace `json:"namespace"`
	Parts     []part           `json:"parts"`
}

// part describes one stream and the file with its messages.
type part struct {
	Stream   string          `json:"stream"`
	File     string          `json:"file"`
	Size     int64           `json:"size"` // of the file
	SHA256   string          `json:"sha256"`
	Created  time.Time       `json:"created"` // of the stream
	Config   json.RawMessage `json:"config"`
	Messages uint64          `json:"messages"`
	Bytes    uint64          `json:"bytes"` // of the messages, not compressed
	FirstSeq uint64          `json:"first_seq"`
	LastSeq  uint64          `json:"last_seq"`
	// BeganAt is the stream's last sequence when the backup began. Messages that were replaced by one up to there are not in
	// the file.
	BeganAt   uint64     `json:"began_at"`
	Consumers []consumer `json:"consumers,omitempty"`
}

// consumer describes a durable consumer.
type consumer struct {
	Name     string          `json:"name"`
	Config   json.RawMessage `json:"config"`
	AckFloor sequences       `json:"ack_floor"`
}

type sequences struct {
	Consumer uint64 `json:"consumer_seq"`
	Stream   uint64 `json:"stream_seq"`
}

// sealed is the content of the file: the manifest and its hash.
type sealed struct {
	SHA256 string          `json:"sha256"` // of the backup's JSON without white space
	Backup json.RawMessage `json:"backup"`
}

// write writes the manifest atomically. Everything else must be synced before.
func (m *manifest) write(dir string) error {
	body, err := json.Marshal(m)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(body)
	text, err := json.MarshalIndent(sealed{hex.EncodeToString(sum[:]), body}, "", "  ")
	if err != nil {
		return err
	}
	unfinished := filepath.Join(dir, manifestName+".unfinished")
	f, err := os.OpenFile(unfinished, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(append(text, '\n'))
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		_ = os.Remove(unfinished)
		return err
	}
	if err := os.Rename(unfinished, filepath.Join(dir, manifestName)); err != nil {
		return err
	}
	return syncFolder(dir)
}

func syncFolder(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// readManifest reads and verifies the manifest of the backup in dir. It does not read the parts.
func readManifest(dir string) (*manifest, error) {
	text, err := os.ReadFile(filepath.Join(dir, manifestName))
	if errors.Is(err, os.ErrNotExist) {
		return nil, newError("no_backup", "%[2]s has no %[1]s: it is not a backup, or it was interrupted. Use another backup.", manifestName, dir)
	}
	if err != nil {
		return nil, fmt.Errorf("backup: %w", err)
	}
	damaged := newError("backup_damaged", "%s is damaged. Use another backup.", filepath.Join(dir, manifestName))
	var s sealed
	if json.Unmarshal(text, &s) != nil {
		return nil, damaged
	}
	var body bytes.Buffer
	if json.Compact(&body, s.Backup) != nil {
		return nil, damaged
	}
	if sum := sha256.Sum256(body.Bytes()); hex.EncodeToString(sum[:]) != s.SHA256 {
		return nil, damaged
	}
	m := new(manifest)
	if json.Unmarshal(s.Backup, m) != nil {
		return nil, damaged
	}
	if m.Format != format {
		return nil, newError("backup_format", "The backup in %s has format %d, and this hark reads format %d. Use the version of hark that has made the backup.",
			dir, m.Format, format)
	}
	for _, p := range m.Parts {
		if p.File != filepath.Base(p.File) {
			return nil, damaged
		}
	}
	return m, nil
}

// check verifies the size and the hash of the file of p.
func (p *part) check(dir string) error {
	path := filepath.Join(dir, p.File)
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return newError("backup_damaged", "%s is missing from the backup. Use another backup.", path)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	hash := sha256.New()
	n, err := io.Copy(hash, f)
	if err != nil {
		return err
	}
	if n != p.Size || hex.EncodeToString(hash.Sum(nil)) != p.SHA256 {
		return newError("backup_damaged", "%s is damaged: it has %d bytes, and its SHA-256 differs from that of the %d bytes that were written. Use another backup.",
			path, n, p.Size)
	}
	return nil
}

func (m *manifest) summary() Summary {
	s := Summary{Began: m.Began, Ended: m.Ended}
	for _, p := range m.Parts {
		s.Streams = append(s.Streams, p.summary())
	}
	return s
}

func (p *part) summary() StreamSummary {
	return StreamSummary{Name: p.Stream, Messages: p.Messages, FirstSeq: p.FirstSeq, LastSeq: p.LastSeq,
		FileBytes: p.Size, Consumers: len(p.Consumers)}
}

// Check verifies that the backup in dir is complete: the manifest, the hash of each file, and every message. It needs no server,
// blocks for as long as reading takes, and returns the summary of the backup.
//
// Errors: an [*Error] with the code no_backup, backup_damaged or backup_format, or what went wrong.
func Check(dir string) (Summary, error) {
	m, _, err := load(dir, Options{})
	if err != nil {
		return Summary{}, err
	}
	return m.summary(), nil
}

// streams returns the names of the streams that the backup must have: the first one of the log says how many that has.
func (m *manifest) streams() ([]string, error) {
	n := 1
	for _, p := range m.Parts {
		if p.Stream != m.Namespace.LogStream() {
			continue
		}
		metadata, err := p.metadata()
		if err != nil {
			return nil, fmt.Errorf("backup: %w", err)
		}
		n = joblog.StreamsIn(metadata)
	}
	return streamsOf(m.Namespace, n), nil
}

// metadata returns the metadata of the stream of p.
func (p *part) metadata() (map[string]string, error) {
	var config struct {
		Metadata map[string]string `json:"metadata"`
	}
	err := json.Unmarshal(p.Config, &config)
	return config.Metadata, err
}

// load reads and verifies the backup in dir. It returns the manifest and the survey of each part.
func load(dir string, o Options) (*manifest, []*survey, error) {
	m, err := readManifest(dir)
	if err != nil {
		return nil, nil, err
	}
	streams, err := m.streams()
	if err != nil {
		return nil, nil, err
	}
	for _, name := range streams {
		if !slices.ContainsFunc(m.Parts, func(p part) bool { return p.Stream == name }) {
			return nil, nil, newError("backup_damaged", "The backup in %s does not have the stream %s. Use another backup.", dir, name)
		}
	}
	surveys := make([]*survey, len(m.Parts))
	for i := range m.Parts {
		if surveys[i], err = m.Parts[i].survey(dir, o); err != nil {
			return nil, nil, fmt.Errorf("backup: %w", err)
		}
	}
	return m, surveys, nil
}
