package hark

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/gofrs/flock"

	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/notifier/inbox"
)

// InboxDatabase says where an inbox is.
type InboxDatabase struct {
	// Database is the URL of a PostgreSQL database, postgres://…, or the path of a SQLite file: inbox.db in the data folder of hark.
	Database Secret
	// Schema and TablePrefix are [Options.InboxSchema] and [Options.InboxTablePrefix] of the hark that uses the inbox.
	Schema, TablePrefix string
}

// MigrateInboxOptions are the options of [MigrateInbox]. From and To are required.
type MigrateInboxOptions struct {
	From, To InboxDatabase
	// Replace deletes the inbox that To has.
	Replace bool
	// Progress, if set, is called after each batch with the number of rows that were copied, by earlier calls too, and of all. It
	// must not block.
	Progress func(done, total int64)
}

// MigratedInbox describes what [MigrateInbox] has copied, in this call and earlier ones.
type MigratedInbox struct {
	Notifications int64
	Marks         int64  // what users did with broadcasts
	Position      string // in the stream, as [jobs.NotificationID.String]; empty if the inbox has had no notification
	// Already says that an earlier call had copied everything. Then this one has changed nothing.
	Already bool
}

// MigrateInbox copies an inbox from one database to another, with everything that users have read and deleted and with the position
// in the stream, where a hark on the new database continues. No hark may use either meanwhile. The old one stays as it is, except
// that its tables are brought up to date. A call after an interruption goes on where that was. MigrateInbox blocks until
// everything is copied or ctx ends.
//
// A mistake in the options is an [*Error], and so is a refusal: the codes are database_missing, database_unreadable, inbox_invalid,
// data_in_use, inbox_missing, inbox_in_use, inbox_same, inbox_exists and inbox_changed.
func MigrateInbox(ctx context.Context, o MigrateInboxOptions) (MigratedInbox, error) {
	from, closeFrom, err := o.From.open("From")
	if err != nil {
		return MigratedInbox{}, err
	}
	defer closeFrom()
	to, closeTo, err := o.To.open("To")
	if err != nil {
		return MigratedInbox{}, err
	}
	defer closeTo()
	moved, err := inbox.Move(ctx, from, to, inbox.MoveOptions{Replace: o.Replace, Progress: o.Progress})
	result := MigratedInbox{Notifications: moved.Notifications, Marks: moved.Marks, Already: moved.Already}
	if moved.Position != (jobs.NotificationID{}) {
		result.Position = moved.Position.String()
	}
	var refusal *inbox.MoveError
	if errors.As(err, &refusal) {
		message := strings.ToUpper(refusal.Message[:1]) + refusal.Message[1:] + "."
		if refusal.Code == "exists" || refusal.Code == "changed" {
			message += " Options.Replace deletes it first."
		}
		return result, &Error{Code: "inbox_" + refusal.Code, Message: message, Err: err}
	}
	return result, err
}

// open opens the inbox of the option with this name, and locks the data folder of its file. The caller must call closer.
func (d *InboxDatabase) open(option string) (store *inbox.Store, closer func(), err error) {
	url, err := d.Database.Read()
	if err != nil {
		return nil, nil, &Error{Code: "database_unreadable", Message: sentence(err, "secret: ")}
	}
	if url == "" {
		return nil, nil, &Error{Code: "database_missing", Message: fmt.Sprintf("Options.%s.Database is missing; give a postgres:// URL or the path of a SQLite file.", option)}
	}
	unlock := func() {}
	if !strings.Contains(url, "://") {
		if unlock, err = lockFolder(filepath.Dir(url)); err != nil {
			return nil, nil, err
		}
	}
	store, err = inbox.Open(url, inbox.Options{Schema: d.Schema, TablePrefix: d.TablePrefix})
	if err != nil {
		unlock()
		var mistake *inbox.OptionError
		if errors.As(err, &mistake) {
			err = &Error{Code: "inbox_invalid", Message: "Options." + option + "." + mistake.Option + " " + mistake.Problem + ".", Err: err}
		}
		return nil, nil, err
	}
	return store, func() {
		_ = store.Close() // everything is committed
		unlock()
	}, nil
}

// lockFolder locks a folder against a hark if it is the data folder of one. Other folders stay as they are.
func lockFolder(dir string) (unlock func(), err error) {
	path := filepath.Join(dir, "lock")
	if _, err := os.Stat(path); err != nil {
		return func() {}, nil // no hark has used it
	}
	lock := flock.New(path)
	got, err := lock.TryLock()
	if err != nil {
		return nil, &Error{Code: "data_unusable", Message: fmt.Sprintf("The data folder %s cannot be used: %v.", dir, err), Err: err}
	}
	if !got {
		return nil, &Error{Code: "data_in_use", Message: fmt.Sprintf("Another hark uses the data folder %s; stop it first.", dir)}
	}
	return func() { _ = lock.Unlock() }, nil
}
