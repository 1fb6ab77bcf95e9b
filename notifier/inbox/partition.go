package inbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// In PostgreSQL the table of notifications has a partition for each four weeks of created_at, so that expiry deletes a table, and not
// millions of rows, whose space would have to be cleaned and would not return to the disk.
//
// It is four weeks, since each list, count and mark looks into all partitions: with 90 days of notifications into 4 or 5, in place
// of 14 of a week and 91 of a day. Most of the cost is planning, which is repeated for each statement behind a pooler.
//
// A partitioned table has no unique index without created_at, which may differ between two notifications with the same key. So
// each partition has a unique index of its own, and an insert looks for its keys in all partitions first. All transactions that
// append lock the row of {expiry}, so that none is inserted meanwhile.
//
// All locks here end with their transaction, and so does each SET: see [poolerTracer].

// partitionTime is the time of a partition. Partitions begin at midnight between Sunday and Monday, UTC.
const partitionTime = 28 * 24 * time.Hour

const (
	// oldest is the age from which on notifications share a partition. Other programs may publish any time, and must not create
	// partitions without end. A time in the future counts as now, so that its notification expires.
	oldest = 10 * 365 * 24 * time.Hour
	// dropTimeout is how long a transaction waits for the readers of the table before it drops a partition. Later readers wait for
	// it meanwhile. dropTries is the number of such transactions, dropPause after one another.
	dropTimeout = 100 * time.Millisecond
	dropTries   = 5
	dropPause   = 500 * time.Millisecond
)

// partition is a partition of the table of notifications, for created_at from a time up to but excluding another one.
type partition struct {
	name     string
	from, to int64
}

// partitionFor returns the partition to create for a time after January 4, 1970.
func partitionFor(createdAt int64) partition {
	const monday = int64(4 * 24 * time.Hour / time.Millisecond) // Unix time began on a Thursday
	const width = int64(partitionTime / time.Millisecond)
	from := createdAt - (createdAt-monday)%width
	return partition{"notifications_" + time.UnixMilli(from).UTC().Format("20060102"), from, from + width}
}

const partitionsSQL = `SELECT c.relname, pg_catalog.pg_get_expr(c.relpartbound, c.oid) FROM pg_catalog.pg_inherits i
	JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = to_regclass($1) ORDER BY c.relname`

// listPartitions returns the existing partitions, the oldest first.
func listPartitions(ctx context.Context, tx transaction) (all []partition, err error) {
	rows, err := tx.QueryContext(ctx, partitionsSQL, tx.names.table("notifications"))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var p partition
		var bounds string
		if err := rows.Scan(&p.name, &bounds); err != nil {
			return nil, err
		}
		if _, err := fmt.Sscanf(bounds, "FOR VALUES FROM ('%d') TO ('%d')", &p.from, &p.to); err != nil {
			return nil, fmt.Errorf("partition %s %s is not one of hark: %w", p.name, bounds, err)
		}
		p.name = strings.TrimPrefix(p.name, tx.names.prefix)
		all = append(all, p)
	}
	return all, rows.Err()
}

const createdBeforeSQL = `SELECT created_before FROM {expiry}`

// ensurePartitions creates the partitions for times that have none, except those that have expired. Several processes may call it
// at a time. Without a missing partition it costs nothing, or one query in the first call.
//
// As PostgreSQL's documentation recommends, it creates a table and attaches it: CREATE TABLE PARTITION OF would wait for all
// readers and block new ones, and ATTACH PARTITION does not.
func (s *Store) ensurePartitions(ctx context.Context, times ...int64) error {
	missing := map[int64]partition{}
	for _, t := range times {
		p := partitionFor(t)
		if _, ok := s.partitions.Load(p.from); !ok {
			missing[p.from] = p
		}
	}
	if len(missing) == 0 {
		return nil
	}
	err := s.update(ctx, func(tx transaction) error {
		existing, err := listPartitions(ctx, tx)
		if err != nil || without(missing, existing) == 0 {
			return err
		}
		// Without the rights to create one, what exists must be enough: see above.
		if _, err := tx.ExecContext(ctx, s.dialect.lockMigrations); err != nil {
			return err
		}
		var before int64
		if err := tx.QueryRowContext(ctx, createdBeforeSQL).Scan(&before); err != nil {
			return err
		}
		if existing, err = listPartitions(ctx, tx); err != nil {
			return err
		}
		without(missing, existing)
		for _, p := range missing {
			if p.to <= before {
				continue
			}
			if err := p.create(ctx, tx); err != nil {
				return fmt.Errorf("create partition %s: %w", p.name, tx.names.explainPartition(s.dialect, err))
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, t := range times {
		s.partitions.Store(partitionFor(t).from, true)
	}
	return nil
}

// without removes existing partitions from missing ones, and returns the number of those that are left.
func without(missing map[int64]partition, existing []partition) int {
	for _, p := range existing {
		delete(missing, p.from)
	}
	return len(missing)
}

// create creates p. Its statements contain names of the caller, so they must not go through [names.sql].
func (p partition) create(ctx context.Context, tx transaction) error {
	parent, table := tx.names.table("notifications"), tx.names.table(p.name)
	for _, statement := range []string{
		fmt.Sprintf(`CREATE TABLE %s (LIKE %s INCLUDING DEFAULTS)`, table, parent),
		fmt.Sprintf(`CREATE UNIQUE INDEX %s%s_key ON %s (key_id)`, tx.names.prefix, p.name, table),
		fmt.Sprintf(`ALTER TABLE %s ATTACH PARTITION %s FOR VALUES FROM (%d) TO (%d)`, parent, table, p.from, p.to),
	} {
		if _, err := tx.tx.ExecContext(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}

// explainPartition adds to a permission error what to grant.
func (n *names) explainPartition(d dialect, err error) error {
	if !d.isDenied(err) {
		return err
	}
	return fmt.Errorf("this database user may not create and drop partitions of %s; make it the table's owner, or run GRANT <owner> TO <user>, and GRANT CREATE on the schema: %w",
		n.table("notifications"), err)
}

// noPartition reports whether an insert failed since a row has no partition.
func noPartition(err error) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && e.Code == "23514" && e.ConstraintName == "" // check_violation
}

// insertPartitioned is [Store.insert] for a table with partitions. Rows that have expired are left out.
func (s *Store) insertPartitioned(ctx context.Context, rows []any, move func(context.Context, transaction) error) error {
	now := time.Now()
	c := newColumns(rows, now.Add(-oldest).UnixMilli(), now.UnixMilli())
	for tries := 0; ; tries++ {
		if err := s.ensurePartitions(ctx, c.createdAt...); err != nil {
			return err
		}
		err := s.update(ctx, func(tx transaction) error {
			var before int64
			if err := tx.QueryRowContext(ctx, createdBeforeSQL+` FOR UPDATE`).Scan(&before); err != nil {
				return err
			}
			if err := move(ctx, tx); err != nil || len(c.keys) == 0 {
				return err
			}
			_, err := tx.ExecContext(ctx, insertPartitionedSQL, c.audiences, c.epochs, c.seqs, c.keys, c.jobs, c.createdAt, c.bodies, before)
			return err
		})
		if !noPartition(err) || tries > 0 {
			return err
		}
		s.partitions.Clear() // another process has dropped one
	}
}

// columnValues are the rows of notifications by column.
type columnValues struct {
	audiences, keys, jobs, bodies [][]byte
	epochs, seqs, createdAt       []int64
}

// newColumns returns the rows of [encode] by column, without those that repeat a key, and with times from first to last.
func newColumns(rows []any, first, last int64) (c columnValues) {
	known := make(map[string]bool, len(rows)/columns)
	for ; len(rows) > 0; rows = rows[columns:] {
		key := rows[3].([]byte)
		if known[string(key)] {
			continue
		}
		known[string(key)] = true
		c.audiences = append(c.audiences, rows[0].([]byte))
		c.epochs = append(c.epochs, rows[1].(int64))
		c.seqs = append(c.seqs, rows[2].(int64))
		c.keys = append(c.keys, key)
		c.jobs = append(c.jobs, rows[4].([]byte))
		c.createdAt = append(c.createdAt, min(max(rows[5].(int64), first), last))
		c.bodies = append(c.bodies, rows[6].([]byte))
	}
	return c
}

// insertPartitionedSQL looks for all keys at once: one scan of each partition's index, and not one for each key.
const insertPartitionedSQL = `INSERT INTO {notifications} (audience, epoch, seq, key_id, job_id, created_at, body)
	SELECT v.* FROM unnest($1::bytea[], $2::bigint[], $3::bigint[], $4::bytea[], $5::bytea[], $6::bigint[], $7::bytea[])
		AS v (audience, epoch, seq, key_id, job_id, created_at, body)
	WHERE v.created_at >= $8 AND NOT v.key_id = ANY (ARRAY(SELECT n.key_id FROM {notifications} n WHERE n.key_id = ANY ($4)))
	ON CONFLICT DO NOTHING`

// expirePartitions makes the notifications that were created before a time invisible, and returns their number. It drops the
// partitions that have no others, and creates the current one and the next.
func (s *Store) expirePartitions(ctx context.Context, before int64) (n int, err error) {
	now := time.Now()
	if err := s.ensurePartitions(ctx, now.UnixMilli(), now.Add(partitionTime).UnixMilli()); err != nil {
		return 0, err
	}
	var was int64
	err = s.update(ctx, func(tx transaction) error {
		if err := tx.QueryRowContext(ctx, createdBeforeSQL+` FOR UPDATE`).Scan(&was); err != nil {
			return err
		}
		// The time does not go back, since the receipts of expired broadcasts are deleted, unless a clock was wrong.
		query := `UPDATE {expiry} SET created_before = LEAST($1, ` + s.dialect.now + `)
			WHERE created_before < LEAST($1, ` + s.dialect.now + `) OR created_before > ` + s.dialect.now + ` RETURNING created_before`
		err := tx.QueryRowContext(ctx, query, before).Scan(&before)
		if errors.Is(err, sql.ErrNoRows) {
			before, err = was, nil
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	if was < before {
		if err := s.queryRow(ctx, countExpiredSQL, was, before).Scan(&n); err != nil {
			return n, err
		}
	}
	return n, s.dropPartitions(ctx, before)
}

const countExpiredSQL = `SELECT count(*) FROM {notifications} WHERE created_at >= $1 AND created_at < $2`

// dropPartitions drops the partitions that end before a time. It ends early with an error if readers use the table for long.
func (s *Store) dropPartitions(ctx context.Context, before int64) error {
	for tries := dropTries; ; {
		left, err := s.dropPartition(ctx, before)
		switch {
		case err == nil && !left:
			return nil
		case err == nil:
			tries = dropTries
		case tries == 1 || !lockTimedOut(err) || !sleep(ctx, dropPause):
			return err
		default:
			tries--
		}
	}
}

// dropPartition drops one partition, and reports whether there was one to drop. DROP TABLE waits for all readers of the table, and
// all later readers wait for it, so it waits for [dropTimeout] only. (DETACH PARTITION CONCURRENTLY keeps nobody waiting, but it
// runs in no transaction, waits itself without end, and leaves a half-detached partition if it is interrupted.)
func (s *Store) dropPartition(ctx context.Context, before int64) (dropped bool, err error) {
	err = s.update(ctx, func(tx transaction) error {
		dropped = false
		existing, err := listPartitions(ctx, tx)
		if err != nil || !oldestEnds(existing, before) {
			return err
		}
		if _, err := tx.ExecContext(ctx, s.dialect.lockMigrations); err != nil {
			return err
		}
		if existing, err = listPartitions(ctx, tx); err != nil || !oldestEnds(existing, before) {
			return err
		}
		timeout := fmt.Sprintf(`SET LOCAL lock_timeout = %d`, dropTimeout.Milliseconds())
		if _, err := tx.ExecContext(ctx, timeout); err != nil {
			return err
		}
		if _, err := tx.tx.ExecContext(ctx, `DROP TABLE `+tx.names.table(existing[0].name)); err != nil {
			return fmt.Errorf("drop partition %s: %w", existing[0].name, tx.names.explainPartition(s.dialect, err))
		}
		dropped = true
		return nil
	})
	return dropped, err
}

// oldestEnds reports whether the oldest partition, which is the first, ends before a time.
func oldestEnds(existing []partition, before int64) bool {
	return len(existing) > 0 && existing[0].to <= before
}

// lockTimedOut reports whether a statement has waited for a lock for too long.
func lockTimedOut(err error) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && e.Code == "55P03" // lock_not_available
}
