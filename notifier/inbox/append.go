package inbox

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/hark-jobs/hark/jobs"
)

// Entry is a notification to be stored in the inbox.
type Entry struct {
	User string // or [jobs.Everyone]
	ID   jobs.NotificationID
	// Notification is stored without its ID, Status and ReadAt. Key defaults to the text of ID.
	Notification jobs.Notification

	// stream is that of a broadcast, as [everyoneIn] names it. It defaults to the first one.
	stream []byte
	// body is the JSON of Notification to be stored. If it is nil, Notification is encoded.
	body []byte
}

// Append stores entries, all or none, and moves the position to the newest of them. An entry with a known key is ignored, also
// if its user has deleted the notification.
//
// An [Ingester] stores the notifications of the log. Append is for entries that the caller has in order, of a log of one stream.
func (s *Store) Append(ctx context.Context, entries []Entry) error {
	rows, err := encode(entries)
	if err != nil {
		return fmt.Errorf("inbox: append: %w", err)
	}
	newest := map[jobs.Epoch]uint64{}
	for _, e := range entries {
		newest[e.ID.Epoch] = max(newest[e.ID.Epoch], e.ID.Seq)
	}
	err = s.insert(ctx, rows, func(ctx context.Context, tx transaction) error {
		// Every transaction that appends writes the positions first, which locks out others.
		const advance = `INSERT INTO {positions} AS p (epoch, stream, seq) VALUES ($1, $2, $3) ON CONFLICT (epoch, stream) DO UPDATE
			SET seq = CASE WHEN excluded.seq > p.seq THEN excluded.seq ELSE p.seq END`
		for epoch, seq := range newest {
			if _, err := tx.ExecContext(ctx, advance, int64(epoch), everyoneIn(0, 1), int64(seq)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("inbox: append: %w", err)
	}
	s.notifyChanged()
	return nil
}

// columns is the number of values of a row of notifications.
const columns = 7

// encode returns the values of all rows.
func encode(entries []Entry) ([]any, error) {
	values := make([]any, 0, len(entries)*columns)
	for i := range entries {
		e := &entries[i]
		if e.User == "" || e.ID.Epoch < 0 || e.ID.Seq == 0 || e.ID.Seq > math.MaxInt64 {
			return nil, fmt.Errorf("entry %d: the user %.40q or the id %s is invalid", i, e.User, e.ID)
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
		audience := []byte(e.User)
		if e.User == jobs.Everyone && e.stream != nil {
			audience = e.stream
		}
		values = append(values, audience, int64(e.ID.Epoch), int64(e.ID.Seq), keyID(string(audience), n.Key), job, n.CreatedAt.UnixMilli(), body)
	}
	return values, nil
}

// keyPrefix is the number of bytes of a key at the start of its id: the length of a ULID's time.
const keyPrefix = 10

// keyID returns the id of a key of an audience: the beginning of the key, then a hash of the audience and the key. So keys with
// the same time are close in the index, with any number of audiences, and long keys do not fill the index. The hash includes
// the length of the audience, so that different pairs have different hashes.
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

// insert calls move, which moves the position, and inserts rows, in one transaction. It ignores rows with known keys.
func (s *Store) insert(ctx context.Context, rows []any, move func(context.Context, transaction) error) error {
	if s.dialect.partitioned {
		return s.insertPartitioned(ctx, rows, move)
	}
	insert, err := s.inserter(ctx, len(rows)/columns)
	if err != nil {
		return err
	}
	return s.update(ctx, func(tx transaction) error {
		ctx := ctx
		if s.dialect.embedded {
			ctx = context.WithoutCancel(ctx) // with a context that can end, each statement starts a goroutine
		}
		if err := move(ctx, tx); err != nil {
			return err
		}
		return insert(ctx, tx, rows)
	})
}

// inserter returns a function that inserts count rows in a transaction of SQLite, and ignores rows with known keys. inserter must be
// called before the transaction begins: see [Store.prepare].
func (s *Store) inserter(ctx context.Context, count int) (insert func(ctx context.Context, tx transaction, values []any) error, err error) {
	statements := map[int]statement{} // by the number of rows
	for left := count; left > 0; {
		rows := insertSize(left)
		if _, ok := statements[rows]; !ok {
			if statements[rows], err = s.prepare(ctx, s.write, insertSQL(rows)); err != nil {
				return nil, err
			}
		}
		left -= rows
	}
	return func(ctx context.Context, tx transaction, values []any) error {
		for len(values) > 0 {
			rows := insertSize(len(values) / columns)
			if _, err := statements[rows].exec(ctx, tx, values[:rows*columns]...); err != nil {
				return err
			}
			values = values[rows*columns:]
		}
		return nil
	}, nil
}

// insertSize returns the number of rows for the next INSERT, if this number of rows is left. Three prepared statements serve any
// number of rows.
func insertSize(rows int) int {
	for _, n := range []int{100, 10} {
		if n <= rows {
			return n
		}
	}
	return 1
}

// insertSQL returns a query for SQLite. Its parameters have no numbers: SQLite looks numbered ones up by name, in a time that grows
// with their number, half of the time of a long INSERT. With ON CONFLICT DO NOTHING a missing value would still undo the whole
// statement, so SQLite would keep a copy of each page, which costs a tenth of the time. OR IGNORE avoids that, and no value is
// missing here.
func insertSQL(rows int) string {
	row := "(?" + strings.Repeat(",?", columns-1) + ")"
	return `INSERT OR IGNORE INTO {notifications} (audience, epoch, seq, key_id, job_id, created_at, body) VALUES ` +
		row + strings.Repeat(","+row, rows-1)
}
