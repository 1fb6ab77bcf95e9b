package hark

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/hark-jobs/hark/internal/backup"
	"github.com/hark-jobs/hark/internal/joblog"
)

// BackupOptions are the options of [Backup].
type BackupOptions struct {
	Location
	// Logger defaults to [slog.Default].
	Logger *slog.Logger
}

// RestoreOptions are the options of [Restore].
type RestoreOptions struct {
	// Location says where to restore. Its Namespace must be that of the backup.
	Location
	// Replicas is how many servers of a NATS cluster keep each message: 1, 3 or 5. Defaults to that of the backup.
	Replicas int
	// MaxAge and FileAge are how long the log and the files are kept. Default to those of the backup. Older messages are not
	// restored.
	MaxAge, FileAge time.Duration
	// Replace deletes the existing streams of hark, after the backup was verified.
	Replace bool
	// Logger defaults to [slog.Default].
	Logger *slog.Logger
}

// BackupSummary describes a backup, or what was restored.
type BackupSummary struct {
	Began   time.Time // the backup has everything that was stored before
	Ended   time.Time
	Streams []BackupStream
}

// BackupStream is one stream of a [BackupSummary].
type BackupStream struct {
	Name      string
	Messages  uint64
	FirstSeq  uint64 // of the messages; 0 if there are none
	LastSeq   uint64
	FileBytes int64 // of the file in the backup
	Consumers int
	// Expired is the number of messages that were not restored, since they are older than the stream's maximum age.
	Expired uint64
}

// Backup saves hark's data in NATS to the folder dir, which must be empty or not exist: jobs, notifications, kinds, and files in
// JetStream. The database of the inbox and a folder of files have their own tools. hark may run meanwhile, but not on
// [Location].Data. [Restore] does not accept an incomplete backup. Backup blocks until it is complete or ctx ends.
//
// A mistake in the options is an [*Error], and so is a refusal: the codes are folder_not_empty, no_hark, data_unusable and data_in_use.
func Backup(ctx context.Context, dir string, o BackupOptions) (BackupSummary, error) {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	nc, err := o.ready(ctx, "hark backup", false, o.Logger)
	if err != nil {
		return BackupSummary{}, err
	}
	defer nc.close()
	return summaryOf(backup.Backup(ctx, nc.Conn, o.place(), dir, o.Logger))
}

// Restore creates hark's streams from the backup in dir. No hark may use them meanwhile. If Restore fails, it deletes the streams
// that it has created. A folder in [Location].Data is created if it does not exist. Restore blocks until it is complete or ctx ends.
//
// A mistake in the options is an [*Error], and so is a refusal: the codes are no_backup, backup_damaged, backup_format,
// namespace_differs, streams_exist, nats_too_old, clock_behind, data_unusable and data_in_use.
func Restore(ctx context.Context, dir string, o RestoreOptions) (BackupSummary, error) {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	settings := joblog.Settings{Replicas: o.Replicas, MaxAge: o.MaxAge, FileAge: o.FileAge}
	if err := refused("setting_invalid", "Options.", settings.Check()); err != nil {
		return BackupSummary{}, err
	}
	nc, err := o.ready(ctx, "hark restore", true, o.Logger)
	if err != nil {
		return BackupSummary{}, err
	}
	defer nc.close()
	return summaryOf(backup.Restore(ctx, nc.Conn, dir, backup.Options{
		Location: o.place(), Replicas: o.Replicas, MaxAge: o.MaxAge, FileAge: o.FileAge, Replace: o.Replace, Logger: o.Logger,
	}))
}

// CheckBackup verifies the backup in dir and describes it. It blocks until all of the backup is read.
//
// A refusal is an [*Error] with the code no_backup, backup_damaged or backup_format.
func CheckBackup(dir string) (BackupSummary, error) { return summaryOf(backup.Check(dir)) }

// ready checks the location, and connects. It blocks until there is a connection, or the wait is over.
func (l *Location) ready(ctx context.Context, name string, create bool, log *slog.Logger) (*opened, error) {
	if err := l.check(); err != nil {
		return nil, err
	}
	nc, err := l.open(name, create, log)
	if err != nil {
		return nil, err
	}
	if err := nc.try(ctx, func(context.Context) error { return nil }); err != nil {
		nc.close()
		return nil, err
	}
	return nc, nil
}

func summaryOf(s backup.Summary, err error) (BackupSummary, error) {
	if err != nil {
		return BackupSummary{}, fromBackup(err)
	}
	summary := BackupSummary{Began: s.Began, Ended: s.Ended}
	for _, stream := range s.Streams {
		summary.Streams = append(summary.Streams, BackupStream(stream))
	}
	return summary, nil
}

// fromBackup returns a refusal of package backup as one of this package.
func fromBackup(err error) error {
	var refusal *backup.Error
	if !errors.As(err, &refusal) {
		return err
	}
	return &Error{Code: refusal.Code, Message: err.Error(), Err: err} // with what else went wrong
}
