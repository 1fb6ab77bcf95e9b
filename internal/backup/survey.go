package backup

import (
	"encoding/json"
	"path/filepath"
	"time"
)

// survey is what is known of a file of messages once it was read through.
type survey struct {
	// kept are the messages to restore, and bytes and oldest what they come to and when the first was stored.
	kept, bytes uint64
	firstSeq    uint64
	oldest      time.Time
	// expired are those that were stored before since: the stream would not keep them.
	expired uint64
	since   time.Time
	// replacedBy has, for each subject that was rewritten while it was read, the message that replaced what stands
	// before it: there may be both in the file.
	replacedBy map[string]uint64
}

// stale says whether a message is to be left out, since another in the file has replaced it.
func (s *survey) stale(m *message) bool { return m.Sequence < s.replacedBy[m.Name] }

// old says whether a message is to be left out for its age.
func (s *survey) old(m *message) bool { return m.Timestamp < s.since.UnixNano() }

// survey verifies the file of p, its hash and every message, and says what is to be restored of it.
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
	// Only what was written during the backup can have replaced what is in it, so no more than that is remembered.
	s := &survey{replacedBy: map[string]uint64{}, since: time.Unix(0, 0)}
	if age > 0 {
		s.since = time.Now().Add(-age)
	}
	var count, last uint64
	err = readMessages(path, func(m *message) error {
		if m.Sequence <= last {
			return refuse("backup_damaged", "%s is damaged: message %d stands behind message %d. Use another backup.", path, m.Sequence, last)
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
		return nil, refuse("backup_damaged", "%s is damaged: it has %d messages up to %d, and not %d up to %d. Use another backup.",
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
		if s.kept++; s.kept == 1 {
			s.firstSeq, s.oldest = m.Sequence, time.Unix(0, m.Timestamp)
		}
		s.bytes += uint64(len(m.Name) + len(m.body))
		return nil
	})
	return s, err
}
