package inbox

import (
	"context"
	"database/sql"
	"time"

	"github.com/hark-jobs/hark/jobs"
)

// AcquireLease gives ingester the lease for an hour. An ingester that crashes leaves a lease behind like this.
func (s *Store) AcquireLease(ctx context.Context, epoch jobs.Epoch, ingester string) error {
	_, err := s.acquireLease(ctx, everyoneIn(0, 1), epoch, ingester, time.Hour)
	return err
}

// Synchronous returns SQLite's setting synchronous of the connection that writes: 1 for NORMAL, 2 for FULL.
func (s *Store) Synchronous(ctx context.Context) (mode int, err error) {
	return mode, s.write.QueryRowContext(ctx, `PRAGMA synchronous`).Scan(&mode)
}

// SetBatchDelay sets the batch delay of f. It must be called before Run.
func (f *Ingester) SetBatchDelay(d time.Duration) { f.batchDelay = d }

// TruncateWAL is truncateWAL, which an ingester calls when it is idle.
func TruncateWAL(ctx context.Context, s *Store) error { return s.truncateWAL(ctx) }

// Writer returns the handle for writing.
func Writer(s *Store) *sql.DB { return s.write }

// Advice returns the advice about an error.
func Advice(s *Store, err error) string { return s.advice(err) }

// Partitions returns the names of the partitions of the notifications in PostgreSQL, the oldest first, without the prefix.
func Partitions(ctx context.Context, s *Store) (names []string, err error) {
	err = s.view(ctx, func(tx transaction) error {
		all, err := listPartitions(ctx, tx)
		names = nil
		for _, p := range all {
			names = append(names, p.name)
		}
		return err
	})
	return names, err
}

// Query returns text with the names of the tables of s in place of those in braces.
func Query(s *Store, text string) string { return s.names.sql(text) }
