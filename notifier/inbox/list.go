package inbox

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/hark-jobs/hark/jobs"
)

// ListOptions says which page of an inbox is wanted.
type ListOptions struct {
	Status string       // [jobs.Unread], or empty for all
	Limit  int          // 1 to 100; 0 means 50
	Before jobs.EventID // only what is older than this; the zero id means from the newest on
}

// Page is a part of an inbox, newest first, as the HTTP API answers it.
type Page struct {
	Notifications []jobs.Notification `json:"notifications"`
	Unread        int                 `json:"unread"` // in the whole inbox, at most [CountLimit]
	// Next is the Before of the next page, [jobs.EventID.String]; empty on the last one.
	Next string `json:"next,omitempty"`
}

// everyone is the audience of broadcasts as the tables have it.
var everyone = []byte(jobs.Everyone)

// The broadcasts behind the last one up to which the user $1 has read all.
const behindReadUpTo = `(n.epoch, n.seq) > (
	COALESCE((SELECT r.epoch FROM hark_read_up_to r WHERE r.reader = $1 ORDER BY r.epoch DESC, r.seq DESC LIMIT 1), -1),
	COALESCE((SELECT r.seq   FROM hark_read_up_to r WHERE r.reader = $1 ORDER BY r.epoch DESC, r.seq DESC LIMIT 1), -1))`

// When the user $1 read the broadcast n, with their mark m on it; 0 if they did not.
const broadcastReadAt = `COALESCE(NULLIF(m.read_at, 0),
	(SELECT r.read_at FROM hark_read_up_to r WHERE r.reader = $1 AND (r.epoch, r.seq) >= (n.epoch, n.seq)
		ORDER BY r.epoch, r.seq LIMIT 1), 0)`

// What is listed is merged of parts, each of which stops at the limit in the order of its index, however long
// the inbox is. A user's own are in one index while unread and in another when read, so that a new row touches
// no more than one: each query says which it means. A broadcast's row is always in the former. The parts name
// rows; what is in them is looked up only for those that are on the page.
const (
	ownSQL = `
SELECT * FROM (
	SELECT n.epoch, n.seq, n.id, 0 AS read_at FROM hark_notes n
	WHERE n.audience = $1 AND n.deleted = 0 AND n.read_at /* = or <> */ 0 AND (n.epoch, n.seq) < ($3, $4)
	ORDER BY n.epoch DESC, n.seq DESC LIMIT /* limit */) AS own
UNION ALL`
	broadcastsSQL = `
SELECT * FROM (
	SELECT n.epoch, n.seq, n.id, ` + broadcastReadAt + ` AS read_at FROM hark_notes n
	LEFT JOIN hark_marks m ON m.reader = $1 AND m.epoch = n.epoch AND m.seq = n.seq
	WHERE n.audience = $2 AND n.deleted = 0 AND n.read_at = 0 AND COALESCE(m.deleted, 0) = 0 /* broadcast */ AND (n.epoch, n.seq) < ($3, $4)
	ORDER BY n.epoch DESC, n.seq DESC LIMIT /* limit */) AS broadcasts`
	// A row has the time of its reading, or the page does: of each, the other's is 0.
	pageSQL = `
SELECT page.epoch, page.seq, page.read_at + n.read_at, n.body FROM (/* parts */
	ORDER BY 1 DESC, 2 DESC LIMIT /* limit */) AS page
JOIN hark_notes n ON n.id = page.id
ORDER BY 1 DESC, 2 DESC`
)

var (
	ownUnreadSQL  = strings.Replace(ownSQL, "/* = or <> */", "=", 1)
	ownReadSQL    = strings.Replace(ownSQL, "/* = or <> */", "<>", 1)
	listSQL       = strings.Replace(pageSQL, "/* parts */", ownUnreadSQL+ownReadSQL+broadcastsSQL, 1)
	listUnreadSQL = strings.Replace(pageSQL, "/* parts */",
		ownUnreadSQL+strings.Replace(broadcastsSQL, "/* broadcast */", "AND m.reader IS NULL AND "+behindReadUpTo, 1), 1)
)

// CountLimit is where counting unread notifications stops: that many means that many or more. So a count takes no
// longer for a user with a million of them, and no longer than a page does.
const CountLimit = 1000

// One statement, so that the count and the position are of the same moment. Of everyone's, it counts those
// behind what was read up to, less those of them that the user has marked: marks are few, broadcasts may
// be many. CROSS makes SQLite begin with the marks.
var unreadSQL = strings.ReplaceAll(`
WITH own AS (SELECT count(*) AS n FROM (
	SELECT 1 FROM hark_notes n WHERE n.audience = $1 AND n.deleted = 0 AND n.read_at = 0 LIMIT /* limit */) AS rows),
marked AS (SELECT count(*) AS n FROM hark_marks m CROSS JOIN hark_notes n
	WHERE m.reader = $1 AND `+strings.Replace(behindReadUpTo, "(n.epoch, n.seq)", "(m.epoch, m.seq)", 1)+`
	AND n.audience = $2 AND n.epoch = m.epoch AND n.seq = m.seq AND n.deleted = 0 AND n.read_at = 0),
broadcasts AS (SELECT count(*) AS n FROM (
	SELECT 1 FROM hark_notes n WHERE n.audience = $2 AND n.deleted = 0 AND n.read_at = 0 AND `+behindReadUpTo+`
	LIMIT /* limit */ - (SELECT n FROM own) + (SELECT n FROM marked)) AS rows)
SELECT (SELECT n FROM own) + (SELECT n FROM broadcasts) - (SELECT n FROM marked),
	COALESCE((SELECT epoch FROM hark_positions ORDER BY epoch DESC LIMIT 1), 0),
	COALESCE((SELECT seq FROM hark_positions ORDER BY epoch DESC LIMIT 1), 0)`, "/* limit */", strconv.Itoa(CountLimit))

// pageBytes is what the notifications of a page may have, without the last.
const pageBytes = 1 << 20

// List returns a page of user's inbox, with fewer than the limit if they have more than 1 MiB. All of it is of one moment. Going on with Next, nothing comes
// twice and nothing that was there at the first page is missed, whatever is appended meanwhile.
func (s *Store) List(ctx context.Context, user string, o ListOptions) (Page, error) {
	query := listSQL
	switch o.Status {
	case "":
	case jobs.Unread:
		query = listUnreadSQL
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
	if o.Before == (jobs.EventID{}) {
		s.want() // this page does not wait for what is on its way, but the next look is to show it
	} else {
		epoch, seq = int64(o.Before.Epoch), int64(min(o.Before.Seq, math.MaxInt64))
	}
	// One more than asked for tells whether there is a next page. It is no parameter, since SQLite then
	// makes its plan again at every call.
	query = strings.ReplaceAll(query, "/* limit */", strconv.Itoa(o.Limit+1))
	page, err := s.page(ctx, query, user, epoch, seq, o.Limit)
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
	err = s.view(ctx, func(tx *sql.Tx) error {
		rows, err := count.query(ctx, tx, []byte(user), everyone)
		if err == nil {
			page.Unread, _, err = scanUnread(rows)
		}
		if err != nil {
			return err
		}
		if rows, err = list.query(ctx, tx, []byte(user), everyone, epoch, seq); err != nil {
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
	var id jobs.EventID
	var readAt int64
	var body sql.RawBytes
	if err := rows.Scan(&id.Epoch, &id.Seq, &readAt, &body); err != nil {
		return n, 0, err
	}
	if err := json.Unmarshal(body, &n); err != nil {
		return n, 0, fmt.Errorf("notification %s: %w", id, err)
	}
	if !jobs.SafeLink(n.Link) { // older than the rule, or foreign
		n.Link = ""
	}
	n.ID, n.Status = id.String(), jobs.Unread
	if readAt != 0 {
		n.Status, n.ReadAt = jobs.Read, time.UnixMilli(readAt).UTC()
	}
	return n, len(body), nil
}

// Unread counts what user has not read, up to [CountLimit].
func (s *Store) Unread(ctx context.Context, user string) (n int, err error) {
	count, err := s.prepare(ctx, s.read, unreadSQL)
	if err == nil {
		err = s.view(ctx, func(tx *sql.Tx) error {
			rows, err := count.query(ctx, tx, []byte(user), everyone)
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

// unread counts in a transaction that writes, and says up to which id everything was counted.
func unread(ctx context.Context, tx *sql.Tx, user string) (n int, upTo jobs.EventID, err error) {
	rows, err := tx.QueryContext(ctx, unreadSQL, []byte(user), everyone)
	if err != nil {
		return 0, upTo, err
	}
	return scanUnread(rows)
}

// scanUnread reads the one row of [unreadSQL].
func scanUnread(rows *sql.Rows) (n int, upTo jobs.EventID, err error) {
	defer rows.Close()
	if rows.Next() {
		err = rows.Scan(&n, &upTo.Epoch, &upTo.Seq)
	}
	return n, upTo, errors.Join(err, rows.Err())
}

const byJobSQL = `SELECT EXISTS (SELECT 1 FROM hark_notes
	WHERE key_id >= $1 AND key_id < $2 AND audience = $3 AND job_id = $4)`

// ByJob reports whether user was ever told about a job, as far back as the log goes. What they deleted
// counts. It knows what was told under a key that begins with the job's id, as all that hark tells does.
func (s *Store) ByJob(ctx context.Context, user, jobID string) (found bool, err error) {
	if !jobs.ValidID(jobID) {
		return false, nil
	}
	// In the index stand the beginnings of keys; those that begin like this one are of jobs of the same millisecond.
	first := []byte(jobID[:keyPrefix])
	behind := bytes.Clone(first)
	behind[keyPrefix-1]++
	if err = s.ready(ctx); err == nil {
		err = s.read.QueryRowContext(ctx, byJobSQL, first, behind, []byte(user), []byte(jobID)).Scan(&found)
	}
	if err != nil {
		return false, fmt.Errorf("inbox: by job: %w", err)
	}
	return found, nil
}
