package backup

import (
	"encoding/json"
	"path/filepath"
	"time"
)

// survey describes the messages of a file that are to be restored.
type survey struct {
	// kept is the number of messages to restore, bytes their size, and oldest when the first one was stored.
	kept, bytes uint64
	firstSeq    uint64
	oldest      time.Time
	// expired is the number of messages that were stored before since, which the stream would not keep.
	expired uint64
	since   time.Time
	// replacedBy has the sequence of the last replacing message for each subject that was rewritten during the backup. The file
	// may have the replaced messages, too.
	replacedBy map[string]uint64
}

// stale reports whether another message in the file has replaced this one.
func (s *survey) stale(m *message) bool { return m.Sequence < s.replacedBy[m.Name] }

// old reports whether a message is older than the stream's maximum age.
func (s *survey) old(m *message) bool { return m.Timestamp < s.since.UnixNano() }

// survey verifies the hash and every message of the file of p.
func (p *part) survey(dir string, o Options) (*survey, error) {
	if err := p.check(dir); err != nil {
		return nil, err
	}
	var settings struct {
		MaxMsgsPerSubject int64 `json:"max_msgs_per_subject"`
	}
	if err := json.Unmarshal(p.Config, &settings); err != nil {
		return nil, err
	}
	age, err := p.maxAge(o)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, p.File)
	// Only messages that were written during the backup can have replaced messages of the file.
	s := &survey{replacedBy: map[string]uint64{}, since: time.Unix(0, 0)}
	if age > 0 {
		s.since = time.Now().Add(-age)
	}
	var count, last uint64
	err = readMessages(path, func(m *message) error {
		if m.Sequence <= last {
			return newError("backup_damaged", "%s is damaged: message %d comes after message %d. Use another backup.", path, m.Sequence, last)
		}
		count, last = count+1, m.Sequence
		if m.Sequence > p.BeganAt && (settings.MaxMsgsPerSubject == 1 || m.replacesOthers()) {
			s.replacedBy[m.Name] = m.Sequence
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if count != p.Messages || last > p.LastSeq {
		return nil, newError("backup_damaged", "%s is damaged: it has %d messages up to %d, not %d up to %d. Use another backup.",
			path, count, last, p.Messages, p.LastSeq)
	}
	err = readMessages(path, func(m *message) error {
		if s.stale(m) {
			return nil
		}
		if s.old(m) {
			s.expired++
			return nil
		}
		s.kept++
		if s.kept == 1 {
			s.firstSeq, s.oldest = m.Sequence, time.Unix(0, m.Timestamp)
		}
		s.bytes += uint64(len(m.Name) + len(m.body))
		return nil
	})
	return s, err
}
