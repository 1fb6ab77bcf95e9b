package inbox

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/json"
	"fmt"
	"math"
	"slices"
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

// Append puts entries into the log, all or none, moves the position to the newest of them, and returns the
// audiences that got something new, each once. What is there already, by its key, is left as it is,
// even if its user has deleted it.
//
// The stream's notifications come through a [Filler]; Append is for what is known to be in order.
func (s *Store) Append(ctx context.Context, entries []Entry) (changed []string, err error) {
	rows, err := encode(entries)
	if err != nil {
		return nil, fmt.Errorf("inbox: append: %w", err)
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
		changed, err = s.insert(ctx, tx, rows)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("inbox: append: %w", err)
	}
	s.moved()
	return changed, nil
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
		if jobs.ValidID(n.JobID) {
			job = []byte(n.JobID)
		}
		key := sha256.Sum256([]byte(n.Key))
		values = append(values, []byte(e.User), int64(e.ID.Epoch), int64(e.ID.Seq), key[:16], job, n.CreatedAt.UnixMilli(), body)
	}
	return values, nil
}

// chunk is how many rows one statement inserts. More save little and take longer to parse.
const chunk = 100

// insert adds the rows that are not there, and returns their audiences in order, each once.
func (s *Store) insert(ctx context.Context, tx *sql.Tx, values []any) (changed []string, err error) {
	seen := map[string]bool{}
	for part := range slices.Chunk(values, chunk*columns) {
		rows, err := tx.QueryContext(ctx, insertSQL(s.dialect, len(part)/columns), part...)
		if err != nil {
			return nil, err
		}
		for rows.Next() {
			var audience []byte
			if err := rows.Scan(&audience); err != nil {
				_ = rows.Close()
				return nil, err
			}
			if user := string(audience); !seen[user] {
				seen[user] = true
				changed = append(changed, user)
			}
		}
		if err := rows.Err(); err != nil {
			return nil, err
		}
	}
	return changed, nil
}

func insertSQL(d dialect, rows int) string {
	var b strings.Builder
	b.WriteString(d.insert + ` INTO hark_notes (audience, epoch, seq, key_hash, job_id, created_at, body) VALUES `)
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
	b.WriteString(`) ` + d.unlessThere + ` RETURNING audience`)
	return b.String()
}
