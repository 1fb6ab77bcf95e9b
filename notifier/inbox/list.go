package inbox

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/hark-jobs/hark/jobs"
)

// ListOptions select a page of an inbox.
type ListOptions struct {
	Status string              // [jobs.Unread], or empty for all
	Limit  int                 // 1 to 100. Defaults to 50.
	Before jobs.NotificationID // only older notifications; the zero id means the first page
}

// Page is a page of an inbox, newest first, in the form of the HTTP API.
type Page struct {
	Notifications []jobs.Notification `json:"notifications"`
	Unread        int                 `json:"unread"` // in the whole inbox, at most [CountLimit]
	// UpTo is the position of the inbox, as [jobs.NotificationID.String]. A notification with an id up to there that is not listed
	// has been deleted or has expired. It is empty before the first notification of any user, and never decreases.
	UpTo string `json:"up_to,omitempty"`
	// Next is the Before of the next page, as [jobs.NotificationID.String]; empty on the last one.
	Next string `json:"next,omitempty"`
}

// readPosition is the position up to which the user $1 has read all broadcasts.
const readPosition = `(
	COALESCE((SELECT r.epoch FROM {read_positions} r WHERE r.reader = $1 ORDER BY r.epoch DESC, r.seq DESC LIMIT 1), -1),
	COALESCE((SELECT r.seq   FROM {read_positions} r WHERE r.reader = $1 ORDER BY r.epoch DESC, r.seq DESC LIMIT 1), -1))`

// When the user $1 read the broadcast n, with their receipt m for it; 0 if they did not.
const broadcastReadAt = `COALESCE(NULLIF(m.read_at, 0),
	(SELECT r.read_at FROM {read_positions} r WHERE r.reader = $1 AND (r.epoch, r.seq) >= (n.epoch, n.seq)
		ORDER BY r.epoch, r.seq LIMIT 1), 0)`

// A page is merged from parts. Each part reads an index in order and stops at the limit, so its cost does not depend on the
// size of the inbox. Unread and read notifications of a user are in different indexes, so that a new row changes one index:
// each query says which one it reads. Broadcasts are always in the index of unread ones.
//
// In SQLite the parts return ids, and bodies are read only for the rows of the page. With partitions an id would have to be looked for
// in each, so the parts return bodies. That costs little: PostgreSQL reads the rows anyway, but not their long bodies.

// ownPart selects the user's own notifications that are read, or those that are not.
func (d dialect) ownPart(read bool, limit int) string {
	compare, row := "=", "n.id, 0 AS read_at"
	if read {
		compare = "<>"
	}
	if d.partitioned {
		row = "n.body, n.read_at"
	}
	return fmt.Sprintf(`
SELECT * FROM (
	SELECT n.epoch, n.seq, %s FROM {notifications} n
	WHERE n.audience = $1 AND n.deleted = 0 AND n.read_at %s 0 {kept} AND (n.epoch, n.seq) < ($3, $4)
	ORDER BY n.epoch DESC, n.seq DESC LIMIT %d) AS own`, row, compare, limit)
}

// broadcastPart selects the broadcasts that the user has not deleted, or of those the unread ones alone.
func (d dialect) broadcastPart(unreadOnly bool, limit int) string {
	unread, row := "", "n.id"
	if unreadOnly {
		unread = "AND m.reader IS NULL AND (n.epoch, n.seq) > " + readPosition
	}
	if d.partitioned {
		row = "n.body"
	}
	return fmt.Sprintf(`
SELECT * FROM (
	SELECT n.epoch, n.seq, %s, %s AS read_at FROM {notifications} n
	LEFT JOIN {receipts} m ON m.reader = $1 AND m.epoch = n.epoch AND m.seq = n.seq
	WHERE n.audience = $2 AND n.deleted = 0 AND n.read_at = 0 {kept} AND COALESCE(m.deleted, 0) = 0 %s AND (n.epoch, n.seq) < ($3, $4)
	ORDER BY n.epoch DESC, n.seq DESC LIMIT %d) AS broadcasts`, row, broadcastReadAt, unread, limit)
}

// pageQuery merges parts. The time of reading is in the row or in the part; the other one is 0. The limit is not a parameter,
// since SQLite would plan the query again for each call.
func (d dialect) pageQuery(limit int, parts ...string) string {
	if d.partitioned {
		return fmt.Sprintf(`
SELECT page.epoch, page.seq, page.read_at, page.body FROM (%s
	ORDER BY 1 DESC, 2 DESC LIMIT %d) AS page`, strings.Join(parts, "\nUNION ALL"), limit)
	}
	return fmt.Sprintf(`
SELECT page.epoch, page.seq, page.read_at + n.read_at, n.body FROM (%s
	ORDER BY 1 DESC, 2 DESC LIMIT %d) AS page
JOIN {notifications} n ON n.id = page.id
ORDER BY 1 DESC, 2 DESC`, strings.Join(parts, "\nUNION ALL"), limit)
}

// listQuery lists all notifications of the user.
func (d dialect) listQuery(limit int) string {
	return d.pageQuery(limit, d.ownPart(false, limit), d.ownPart(true, limit), d.broadcastPart(false, limit))
}

// listUnreadQuery lists those that the user has not read.
func (d dialect) listUnreadQuery(limit int) string {
	return d.pageQuery(limit, d.ownPart(false, limit), d.broadcastPart(true, limit))
}

// CountLimit is the number at which counting unread notifications stops: it means this number or more. So a count takes about as
// long as a page, also for a user with a million notifications.
const CountLimit = 1000

// unreadSQL is one statement, so that the count and the position are of the same moment. It counts the broadcasts after the
// user's read position and subtracts those with a receipt of the user: receipts are few, and broadcasts may be many. CROSS
// makes SQLite begin with the receipts.
var unreadSQL = fmt.Sprintf(`
WITH own AS (SELECT count(*) AS n FROM (
	SELECT 1 FROM {notifications} n WHERE n.audience = $1 AND n.deleted = 0 AND n.read_at = 0 {kept} LIMIT %[1]d) AS rows),
marked AS (SELECT count(*) AS n FROM {receipts} m CROSS JOIN {notifications} n
	WHERE m.reader = $1 AND (m.epoch, m.seq) > %[2]s
	AND n.audience = $2 AND n.epoch = m.epoch AND n.seq = m.seq AND n.deleted = 0 AND n.read_at = 0 {kept}),
broadcasts AS (SELECT count(*) AS n FROM (
	SELECT 1 FROM {notifications} n WHERE n.audience = $2 AND n.deleted = 0 AND n.read_at = 0 {kept} AND (n.epoch, n.seq) > %[2]s
	LIMIT %[1]d - (SELECT n FROM own) + (SELECT n FROM marked)) AS rows)
SELECT (SELECT n FROM own) + (SELECT n FROM broadcasts) - (SELECT n FROM marked),
	COALESCE((SELECT epoch FROM {positions} WHERE stream = $2 ORDER BY epoch DESC LIMIT 1), 0),
	COALESCE((SELECT seq FROM {positions} WHERE stream = $2 ORDER BY epoch DESC LIMIT 1), 0)`, CountLimit, readPosition)

// pageBytes is the size at which a page ends: all its notifications except the last have at most this many bytes.
const pageBytes = 1 << 20

// List returns a page of a user's inbox, with fewer notifications than the limit if they have more than 1 MiB. All of it is of
// one moment. The pages that Next leads to have each notification once, and every notification that existed at the first page,
// also if others are appended meanwhile.
func (s *Store) List(ctx context.Context, user string, o ListOptions) (Page, error) {
	query := s.dialect.listQuery
	switch o.Status {
	case "":
	case jobs.Unread:
		query = s.dialect.listUnreadQuery
	default:
		return Page{}, fmt.Errorf("inbox: list: status must be %s or empty, not %.20q", jobs.Unread, o.Status)
	}
	if o.Limit == 0 {
		o.Limit = 50
	}
	if o.Limit < 1 || o.Limit > 100 {
		return Page{}, fmt.Errorf("inbox: list: limit must be 1 to 100, not %d", o.Limit)
	}
	epoch, seq := int64(math.MaxInt64), int64(math.MaxInt64)
	if o.Before == (jobs.NotificationID{}) {
		s.requestFlush(s.streamOf(user)) // this page does not wait for the ingester, but the next one should be up to date
	} else {
		epoch, seq = int64(o.Before.Epoch), int64(min(o.Before.Seq, math.MaxInt64))
	}
	// One row more than the limit shows whether there is a next page.
	page, err := s.page(ctx, query(o.Limit+1), user, epoch, seq, o.Limit)
	if err != nil {
		return Page{}, fmt.Errorf("inbox: list: %w", err)
	}
	return page, nil
}

// page counts and lists in one transaction.
func (s *Store) page(ctx context.Context, query, user string, epoch, seq int64, limit int) (page Page, err error) {
	count, err := s.prepare(ctx, s.read, unreadSQL)
	if err != nil {
		return page, err
	}
	list, err := s.prepare(ctx, s.read, query)
	if err != nil {
		return page, err
	}
	page.Notifications = []jobs.Notification{}
	err = s.view(ctx, func(tx transaction) error {
		var upTo jobs.NotificationID
		rows, err := count.query(ctx, tx, []byte(user), s.everyoneOf(user))
		if err == nil {
			page.Unread, upTo, err = scanUnread(rows)
		}
		if err != nil {
			return err
		}
		if upTo != (jobs.NotificationID{}) {
			page.UpTo = upTo.String()
		}
		if rows, err = list.query(ctx, tx, []byte(user), s.everyoneOf(user), epoch, seq); err != nil {
			return err
		}
		defer rows.Close()
		size := 0
		for rows.Next() {
			if n := len(page.Notifications); n == limit || size > pageBytes {
				page.Next = page.Notifications[n-1].ID
				return nil
			}
			n, bytes, err := scan(rows)
			if err != nil {
				return err
			}
			size += bytes
			page.Notifications = append(page.Notifications, n)
		}
		return rows.Err()
	})
	return page, err
}

func scan(rows *sql.Rows) (n jobs.Notification, size int, err error) {
	var id jobs.NotificationID
	var readAt int64
	var body sql.RawBytes
	if err := rows.Scan(&id.Epoch, &id.Seq, &readAt, &body); err != nil {
		return n, 0, err
	}
	if err := json.Unmarshal(body, &n); err != nil {
		return n, 0, fmt.Errorf("notification %s: %w", id, err)
	}
	if !jobs.SafeLink(n.Link) { // another program has published it
		n.Link = ""
	}
	n.ID, n.Status = id.String(), jobs.Unread
	if readAt != 0 {
		n.Status, n.ReadAt = jobs.Read, time.UnixMilli(readAt).UTC()
	}
	return n, len(body), nil
}

// Unread returns the number of unread notifications of a user, up to [CountLimit].
func (s *Store) Unread(ctx context.Context, user string) (n int, err error) {
	count, err := s.prepare(ctx, s.read, unreadSQL)
	if err == nil {
		err = s.view(ctx, func(tx transaction) error {
			rows, err := count.query(ctx, tx, []byte(user), s.everyoneOf(user))
			if err == nil {
				n, _, err = scanUnread(rows)
			}
			return err
		})
	}
	if err != nil {
		return 0, fmt.Errorf("inbox: unread: %w", err)
	}
	return n, nil
}

// unread counts in a transaction that writes. upTo is the position of the inbox.
func unread(ctx context.Context, tx transaction, user string, everyone []byte) (n int, upTo jobs.NotificationID, err error) {
	rows, err := tx.QueryContext(ctx, unreadSQL, []byte(user), everyone)
	if err != nil {
		return 0, upTo, err
	}
	return scanUnread(rows)
}

// scanUnread reads the one row of [unreadSQL].
func scanUnread(rows *sql.Rows) (n int, upTo jobs.NotificationID, err error) {
	defer rows.Close()
	if rows.Next() {
		err = rows.Scan(&n, &upTo.Epoch, &upTo.Seq)
	}
	return n, upTo, errors.Join(err, rows.Err())
}

const byJobSQL = `SELECT EXISTS (SELECT 1 FROM {notifications}
	WHERE key_id >= $1 AND key_id < $2 AND audience = $3 AND job_id = $4 {kept})`

// ByJob reports whether the inbox has, or had until its deletion, a notification of user about a job. It finds notifications
// whose key begins with the job's id, as those of hark do.
func (s *Store) ByJob(ctx context.Context, user, jobID string) (found bool, err error) {
	if !jobs.ValidID(jobID) {
		return false, nil
	}
	// The index has the beginnings of keys. Those with the same beginning are of jobs of the same millisecond.
	first := []byte(jobID[:keyPrefix])
	end := bytes.Clone(first)
	end[keyPrefix-1]++
	err = s.ready(ctx)
	if err == nil {
		err = s.queryRow(ctx, byJobSQL, first, end, []byte(user), []byte(jobID)).Scan(&found)
	}
	if err != nil {
		return false, fmt.Errorf("inbox: by job: %w", err)
	}
	return found, nil
}
