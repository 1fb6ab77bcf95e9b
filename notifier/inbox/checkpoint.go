package inbox

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"os"
	"time"
)

// SQLite reuses its write-ahead log after each checkpoint, and never makes it shorter. [openSQLite] lets it grow to 32 MB before a
// checkpoint. A small database would keep a log of that size, in each copy of the folder, too.
const (
	// minWALSize is the size from which the log is truncated.
	minWALSize = 1 << 20
	// truncateInterval is the interval at which a busy ingester truncates the log.
	truncateInterval = time.Minute
)

// truncateWAL checkpoints SQLite's write-ahead log and truncates it, if it is larger than minWALSize. It does nothing while a reader
// needs the log; the next call retries. Other writes wait for the checkpoint.
func (s *Store) truncateWAL(ctx context.Context) error {
	if s.wal == "" {
		return nil
	}
	if info, err := os.Stat(s.wal); err != nil || info.Size() <= minWALSize {
		return nil
	}
	conn, err := s.write.Conn(ctx)
	if err != nil {
		return fmt.Errorf("inbox: truncate the write-ahead log: %w", err)
	}
	defer conn.Close()
	if err := checkpoint(ctx, conn); err != nil {
		return fmt.Errorf("inbox: truncate the write-ahead log: %w", err)
	}
	return nil
}

// checkpoint checkpoints and truncates the log on a connection. It restores the connection's busy timeout, or else discards the
// connection.
func checkpoint(ctx context.Context, conn *sql.Conn) error {
	var timeout, busy, frames, moved int
	if err := conn.QueryRowContext(ctx, `PRAGMA busy_timeout`).Scan(&timeout); err != nil {
		return err
	}
	// With a busy timeout SQLite would wait for readers, and all writes would wait meanwhile.
	err := conn.QueryRowContext(ctx, `PRAGMA busy_timeout(0)`).Scan(&busy)
	if err == nil {
		err = conn.QueryRowContext(ctx, `PRAGMA wal_checkpoint(TRUNCATE)`).Scan(&busy, &frames, &moved)
	}
	restore := conn.QueryRowContext(context.WithoutCancel(ctx), fmt.Sprintf(`PRAGMA busy_timeout(%d)`, timeout)).Scan(&timeout)
	if restore != nil {
		_ = conn.Raw(func(any) error { return driver.ErrBadConn }) // the pool closes the connection
	}
	return errors.Join(err, restore)
}
