package inbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/hark-jobs/hark/jobs"
)

// MoveError is a refusal of [Move].
type MoveError struct {
	// Code is missing (there is no inbox at the source), in_use (a hark uses the source or the target), same (source and target are
	// the same), exists (the target has an inbox already) or changed (the source has changed since a move that was not finished, or
	// is another one).
	Code    string
	Message string
}

func (e *MoveError) Error() string { return e.Message }

// MoveOptions are the options of [Move].
type MoveOptions struct {
	// Replace deletes the inbox in the target first.
	Replace bool
	// Progress, if set, is called after each batch with the number of moved rows, in earlier calls too, and of all rows. It must
	// not block.
	Progress func(done, total int64)
}

// Moved is what [Move] has moved, in this call and earlier ones.
type Moved struct {
	Notifications int64 // including deleted ones
	Marks         int64 // what users did with broadcasts
	Position      jobs.NotificationID
	// Already says that an earlier call had moved everything. Then this one has changed nothing.
	Already bool
}

// Move copies the inbox of one database to another, with everything that users have read and deleted, and with its position in the
// stream: an [Ingester] of the target continues there. Notifications that have expired are left out. Neither may be used meanwhile.
// Each batch is a transaction that also stores how far the move is, so a call after an interruption goes on there. Move changes
// nothing in the source, except that its tables are brought up to date. It blocks until all is moved or ctx ends.
//
// A refusal is a [*MoveError].
func Move(ctx context.Context, from, to *Store, o MoveOptions) (Moved, error) {
	m := &move{to: to, o: o}
	err := m.check(ctx, from)
	if err == nil {
		// The transaction keeps others from appending to the source, and in SQLite from any change.
		opts := &sql.TxOptions{}
		if from.dialect.partitioned {
			opts.Isolation = sql.LevelRepeatableRead // all reads see the same moment
		}
		err = from.transact(ctx, from.write, opts, func(src transaction) error {
			m.src, m.dialect = src, from.dialect
			return m.run(ctx)
		})
	}
	var refusal *MoveError
	if err != nil && !errors.As(err, &refusal) {
		err = fmt.Errorf("inbox: move: %w", err)
	}
	return m.moved, err
}

// move is a call of [Move].
type move struct {
	src     transaction
	dialect dialect // of the source
	to      *Store
	o       MoveOptions
	total   int64
	source  string // describes the source: see [move.describe]
	at      moveState
	moved   Moved
}

// moveState is the row of {moves}: how far a move is.
type moveState struct {
	source     string
	step       int    // the table in [moveTables] that is being copied
	key        []byte // of its last row that was copied, and its epoch and seq
	epoch, seq int64
	copied     int64 // rows of all tables
}

func (m *move) check(ctx context.Context, from *Store) error {
	if from.path != "" {
		if _, err := os.Stat(from.path); errors.Is(err, os.ErrNotExist) {
			return &MoveError{"missing", fmt.Sprintf("there is no file %s", from.path)}
		}
		if same, err := sameFile(from.path, m.to.path); err != nil || same {
			return errors.Join(err, &MoveError{"same", "the source and the target are the same file"})
		}
	}
	// The tables of a source must not be created.
	var there bool
	if err := from.queryRow(ctx, from.dialect.hasTable, from.names.table("migrations")).Scan(&there); err != nil {
		return err
	}
	if !there {
		return &MoveError{"missing", "there is no inbox in the source: it has no table " + from.names.table("migrations")}
	}
	if err := from.waitForIngester(ctx, "source"); err != nil {
		return err
	}
	return m.to.waitForIngester(ctx, "target")
}

func sameFile(a, b string) (bool, error) {
	one, err := os.Stat(a)
	if err != nil || b == "" {
		return false, err
	}
	two, err := os.Stat(b)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return err == nil && os.SameFile(one, two), err
}

// waitForIngester returns an error if an ingester renews its lease. The lease of one that has crashed ends soon.
func (s *Store) waitForIngester(ctx context.Context, where string) error {
	query := `SELECT COUNT(*) FROM {positions} WHERE lease_until > ` + s.dialect.now
	for end := time.Now().Add(leaseTime + leaseTick); ; {
		if err := s.ready(ctx); err != nil {
			return err
		}
		var active int
		if err := s.queryRow(ctx, query).Scan(&active); err != nil || active == 0 {
			return err
		}
		if time.Now().After(end) || !sleep(ctx, leaseTick/8) {
			return errors.Join(ctx.Err(), &MoveError{"in_use", "a hark uses the " + where + "; stop it first"})
		}
	}
}

// run copies everything, in a transaction of the source.
func (m *move) run(ctx context.Context) error {
	if m.dialect.partitioned {
		var before int64
		if err := m.src.QueryRowContext(ctx, createdBeforeSQL+` FOR UPDATE`).Scan(&before); err != nil {
			return err
		}
	}
	if err := m.refuseSameTable(ctx); err != nil {
		return err
	}
	if err := m.describe(ctx); err != nil {
		return err
	}
	if err := m.begin(ctx); err != nil || m.moved.Already {
		return err
	}
	m.progress()
	for m.at.step < len(moveTables) {
		if err := m.batch(ctx); err != nil {
			return err
		}
		m.progress()
	}
	return m.finish(ctx)
}

func (m *move) progress() {
	if m.o.Progress != nil {
		m.o.Progress(m.at.copied, m.total)
	}
}

// lockTableSQL locks a number that belongs to a table, until the end of the transaction, unless another transaction has it.
const lockTableSQL = `SELECT pg_try_advisory_xact_lock((1751216747::BIGINT << 32) | to_regclass($1)::OID::BIGINT)`

// refuseSameTable returns an error if the target is the source. In PostgreSQL two URLs that differ may lead to the same table, so
// the target finds out whether it can lock what the source has locked.
func (m *move) refuseSameTable(ctx context.Context) error {
	if !m.dialect.partitioned || !m.to.dialect.partitioned {
		return nil
	}
	got := false
	if err := m.src.QueryRowContext(ctx, lockTableSQL, m.src.names.table("notifications")).Scan(&got); err != nil {
		return err
	}
	if !got {
		return &MoveError{"in_use", "another move uses the source"}
	}
	return m.to.update(ctx, func(tx transaction) error {
		if err := tx.QueryRowContext(ctx, lockTableSQL, tx.names.table("notifications")).Scan(&got); err != nil || got {
			return err
		}
		return &MoveError{"same", "the source and the target are the same table"}
	})
}

// describe counts what is in the source. Notifications, marks and positions are only added, changed in one direction, and deleted
// in order, so two descriptions of a source are the same only if nothing has changed.
func (m *move) describe(ctx context.Context) error {
	var own, unread, read, receipts, deleted, positions int64
	for query, n := range map[string]*int64{
		`SELECT COUNT(*) FROM {notifications} WHERE TRUE {kept}`:                         &own,
		`SELECT COUNT(*) FROM {notifications} WHERE deleted = 0 AND read_at = 0 {kept}`:  &unread,
		`SELECT COUNT(*) FROM {notifications} WHERE deleted = 0 AND read_at <> 0 {kept}`: &read,
		`SELECT COUNT(*) FROM {receipts}`:                                                &receipts,
		`SELECT COUNT(*) FROM {receipts} WHERE deleted <> 0`:                             &deleted,
		`SELECT COUNT(*) FROM {read_positions}`:                                          &positions,
	} {
		if err := m.src.QueryRowContext(ctx, query).Scan(n); err != nil {
			return err
		}
	}
	all, err := readPositions(ctx, m.src)
	if err != nil {
		return err
	}
	m.total = own + receipts + positions
	m.source = fmt.Sprint(own, unread, read, receipts, deleted, positions, all)
	m.moved.Notifications, m.moved.Marks = own, receipts+positions
	if len(all) > 0 {
		m.moved.Position = all[len(all)-1].NotificationID
	}
	return nil
}

// streamPosition is the position in a stream, which has the name that [everyoneIn] gives it.
type streamPosition struct {
	stream []byte
	jobs.NotificationID
}

// readPositions returns all positions: that of the newest epoch in the first stream is the last.
func readPositions(ctx context.Context, tx transaction) (all []streamPosition, err error) {
	rows, err := tx.QueryContext(ctx, `SELECT epoch, stream, seq FROM {positions} ORDER BY epoch, stream DESC`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var at streamPosition
		if err := rows.Scan(&at.Epoch, &at.stream, &at.Seq); err != nil {
			return nil, err
		}
		all = append(all, at)
	}
	return all, rows.Err()
}

const (
	moveSQL   = `SELECT source, step, row_key, epoch, seq, copied, finished FROM {moves}`
	beginSQL  = `INSERT INTO {moves} (id, source, row_key) VALUES (1, $1, $2)`
	batchSQL  = `UPDATE {moves} SET step = $1, row_key = $2, epoch = $3, seq = $4, copied = $5 WHERE id = 1 AND copied = $6 AND step = $7 AND finished = 0`
	finishSQL = `UPDATE {moves} SET finished = 1 WHERE id = 1 AND copied = $1 AND finished = 0`
	movedSQL  = `INSERT INTO {positions} (epoch, stream, seq) VALUES ($1, $2, $3)`
	inUseSQL  = `SELECT EXISTS (SELECT 1 FROM {positions}) OR EXISTS (SELECT 1 FROM {notifications})`
)

// begin finds out how far the move is.
func (m *move) begin(ctx context.Context) error {
	return m.to.update(ctx, func(tx transaction) error {
		if m.o.Replace {
			if err := empty(ctx, tx, m.to.dialect); err != nil {
				return err
			}
		}
		var finished int
		err := tx.QueryRowContext(ctx, moveSQL).Scan(&m.at.source, &m.at.step, &m.at.key, &m.at.epoch, &m.at.seq, &m.at.copied, &finished)
		if m.at.key == nil {
			m.at.key = []byte{} // SQLite's driver returns nil, which as a parameter is NULL
		}
		switch {
		case errors.Is(err, sql.ErrNoRows):
			var used bool
			if err := tx.QueryRowContext(ctx, inUseSQL).Scan(&used); err != nil {
				return err
			}
			if used {
				return &MoveError{"exists", "the target has an inbox already, which no move has begun"}
			}
			m.at = moveState{source: m.source, key: []byte{}}
			_, err := tx.ExecContext(ctx, beginSQL, m.source, []byte{})
			return err
		case err != nil:
			return err
		case finished != 0 && m.at.source == m.source:
			m.moved.Already = true
			return nil
		case finished != 0:
			return &MoveError{"exists", "the target has an inbox already: an earlier move of another source, or of this one before it changed, is complete"}
		case m.at.source != m.source:
			return &MoveError{"changed", "the target has an incomplete move of another source, or of this one before it changed"}
		}
		return m.refuseUsed(ctx, tx)
	})
}

// refuseUsed returns an error if an ingester has begun to use the target.
func (m *move) refuseUsed(ctx context.Context, tx transaction) error {
	var used bool
	if err := tx.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM {positions})`).Scan(&used); err != nil || !used {
		return err
	}
	return &MoveError{"in_use", "a hark has begun to use the target before the move was complete; stop it first"}
}

// empty deletes everything in a target.
func empty(ctx context.Context, tx transaction, d dialect) error {
	for _, table := range []string{"notifications", "receipts", "read_positions", "positions", "moves"} {
		query := `DELETE FROM {` + table + `}`
		if d.partitioned {
			query = `TRUNCATE {` + table + `}`
		}
		if _, err := tx.ExecContext(ctx, query); err != nil {
			return err
		}
	}
	if !d.partitioned {
		return nil
	}
	_, err := tx.ExecContext(ctx, `UPDATE {expiry} SET created_before = 0`)
	return err
}

// batch copies the next rows.
func (m *move) batch(ctx context.Context) error {
	table := moveTables[m.at.step]
	rows, err := m.next(ctx, table)
	if err != nil {
		return fmt.Errorf("read %s: %w", table.name, err)
	}
	next := m.at
	next.copied += int64(len(rows))
	if len(rows) == 0 {
		next.step, next.key, next.epoch, next.seq = next.step+1, []byte{}, 0, 0
	} else {
		next.key, next.epoch, next.seq = table.cursor(rows[len(rows)-1])
	}
	insert := table.insert(m.to, rows)
	if table.partitioned && m.to.dialect.partitioned {
		if err := m.to.ensurePartitions(ctx, createdAt(rows)...); err != nil {
			return err
		}
	}
	err = m.to.update(ctx, func(tx transaction) error {
		args := []any{next.step, next.key, next.epoch, next.seq, next.copied, m.at.copied, m.at.step}
		n, err := affected(tx.ExecContext(ctx, batchSQL, args...))
		if err == nil && n == 0 {
			err = &MoveError{"in_use", "another move into the target goes on"}
		}
		if err == nil {
			err = m.refuseUsed(ctx, tx)
		}
		if err != nil || len(rows) == 0 {
			return err
		}
		return insert(ctx, tx)
	})
	if err == nil {
		m.at = next
	}
	return err
}

// finish copies the positions. With them the target is an inbox.
func (m *move) finish(ctx context.Context) error {
	all, err := readPositions(ctx, m.src)
	if err != nil {
		return err
	}
	return m.to.update(ctx, func(tx transaction) error {
		n, err := affected(tx.ExecContext(ctx, finishSQL, m.at.copied))
		if err == nil && n == 0 {
			err = &MoveError{"in_use", "another move into the target goes on"}
		}
		if err == nil {
			err = m.refuseUsed(ctx, tx)
		}
		for _, at := range all {
			if err == nil {
				_, err = tx.ExecContext(ctx, movedSQL, int64(at.Epoch), at.stream, int64(at.Seq))
			}
		}
		return err
	})
}
