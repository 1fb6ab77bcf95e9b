package inbox

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/hark-jobs/hark/jobs"
)

// Entry is a notification on its way into the log.
type Entry struct {
	User string // or [jobs.Everyone]
	ID   jobs.EventID
	// Notification is kept but for its ID, Status and ReadAt. Without a Key, its id stands for it.
	Notification jobs.Notification

	// body is the JSON of Notification as it is to be kept, if that is at hand.
	body []byte
}

// Append puts entries into the log, all or none, and moves the position to the newest of them. What is there
// already, by its key, is left as it is, even if its user has deleted it.
//
// The stream's notifications come through a [Filler]; Append is for what is known to be in order.
func (s *Store) Append(ctx context.Context, entries []Entry) error {
	rows, err := encode(entries)
	if err != nil {
		return fmt.Errorf("inbox: append: %w", err)
	}
	insert, err := s.inserter(ctx, len(entries))
	if err != nil {
		return fmt.Errorf("inbox: append: %w", err)
	}
	newest := map[jobs.Epoch]uint64{}
	for _, e := range entries {
		newest[e.ID.Epoch] = max(newest[e.ID.Epoch], e.ID.Seq)
	}
	err = s.update(ctx, func(tx *sql.Tx) error {
		// The positions are first in every transaction that appends: they keep it from running into another.
		const advance = `INSERT INTO hark_positions (epoch, seq) VALUES ($1, $2) ON CONFLICT (epoch) DO UPDATE
			SET seq = CASE WHEN excluded.seq > hark_positions.seq THEN excluded.seq ELSE hark_positions.seq END`
		for epoch, seq := range newest {
			if _, err := tx.ExecContext(ctx, advance, int64(epoch), int64(seq)); err != nil {
				return err
			}
		}
		return insert(ctx, tx, rows)
	})
	if err != nil {
		return fmt.Errorf("inbox: append: %w", err)
	}
	s.moved()
	return nil
}

// columns is how many values one row of hark_notes is inserted with.
const columns = 7

// encode makes the values of the rows, one after the other.
func encode(entries []Entry) ([]any, error) {
	values := make([]any, 0, len(entries)*columns)
	for i := range entries {
		e := &entries[i]
		if e.User == "" || e.ID.Epoch < 0 || e.ID.Seq == 0 || e.ID.Seq > math.MaxInt64 {
			return nil, fmt.Errorf("entry %d: no place for user %.40q, id %s", i, e.User, e.ID)
		}
		n, body := e.Notification, e.body
		if body == nil {
			n.ID, n.Status, n.ReadAt = "", "", time.Time{}
			if n.Key == "" {
				n.Key = e.ID.String()
			}
			var err error
			if body, err = json.Marshal(&n); err != nil {
				return nil, fmt.Errorf("entry %d, id %s: %w", i, e.ID, err)
			}
		}
		var job []byte
		if n.JobID != "" {
			job = []byte(n.JobID)
		}
		values = append(values, []byte(e.User), int64(e.ID.Epoch), int64(e.ID.Seq), keyID(e.User, n.Key), job, n.CreatedAt.UnixMilli(), body)
	}
	return values, nil
}

// keyPrefix is how many bytes of a key its id begins with: as many as a ULID has for its time.
const keyPrefix = 10

// keyID stands for a key of an audience's, and sorts as the beginning of the key does: what is new then stands
// near what came before it in the index, however many audiences there are, and long keys do not fill it.
// Behind the beginning is a hash of both, which the length keeps apart.
func keyID(audience, key string) []byte {
	buf := make([]byte, 0, 256)
	buf = binary.AppendUvarint(buf, uint64(len(audience)))
	buf = append(buf, audience...)
	buf = append(buf, key...)
	sum := sha256.Sum256(buf)
	prefix := key[:min(len(key), keyPrefix)]
	id := make([]byte, 0, keyPrefix+16)
	return append(append(id, prefix...), sum[:16]...)
}

// inserter returns a function that adds those of count rows that are not there, in a transaction. It must be
// called before the transaction begins, see [Store.prepare].
func (s *Store) inserter(ctx context.Context, count int) (insert func(ctx context.Context, tx *sql.Tx, values []any) error, err error) {
	statements := map[int]statement{} // by their number of rows
	for left := count; left > 0; {
		rows := s.dialect.atOnce(left)
		if _, ok := statements[rows]; !ok {
			if statements[rows], err = s.prepare(ctx, s.write, insertSQL(s.dialect, rows)); err != nil {
				return nil, err
			}
		}
		left -= rows
	}
	return func(ctx context.Context, tx *sql.Tx, values []any) error {
		for len(values) > 0 {
			rows := s.dialect.atOnce(len(values) / columns)
			if _, err := statements[rows].exec(ctx, tx, values[:rows*columns]...); err != nil {
				return err
			}
			values = values[rows*columns:]
		}
		return nil
	}, nil
}

func insertSQL(d dialect, rows int) string {
	var b strings.Builder
	b.WriteString(d.insert + ` INTO hark_notes (audience, epoch, seq, key_id, job_id, created_at, body) VALUES `)
	for i := range rows * columns {
		switch {
		case i == 0:
			b.WriteByte('(')
		case i%columns == 0:
			b.WriteString("),(")
		default:
			b.WriteByte(',')
		}
		if d.plainPlaceholders {
			b.WriteByte('?')
		} else {
			b.WriteByte('$')
			b.WriteString(strconv.Itoa(i + 1))
		}
	}
	b.WriteString(`) ` + d.unlessThere)
	return b.String()
}
