package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/hark-jobs/hark"
)

// MigrateCmd is hark migrate.
type MigrateCmd struct {
	Inbox MigrateInboxCmd `cmd:"" help:"Copy the inbox of a hark that is stopped to another database, such as from one machine's inbox.db to PostgreSQL."`
}

// MigrateInboxCmd is hark migrate inbox.
type MigrateInboxCmd struct {
	From     string `secret:"url" help:"Path of inbox.db in the data folder, or the URL of the database with the inbox." placeholder:"URL"`
	FromFile string `help:"File with that URL." type:"path" placeholder:"FILE"`
	To       string `secret:"url" help:"postgres:// URL of the new database, or the path of a SQLite file." placeholder:"URL"`
	ToFile   string `help:"File with that URL." type:"path" placeholder:"FILE"`
	Replace  bool   `help:"Delete the inbox that the new database has."`
	Quiet    bool   `short:"q" help:"Show no progress."`

	FromSchema      string `help:"--inbox-schema of the hark that has used --from." placeholder:"NAME"`
	FromTablePrefix string `help:"--inbox-table-prefix of the hark that has used --from." default:"hark_"`
	ToSchema        string `help:"--inbox-schema of the hark that will use --to." placeholder:"NAME"`
	ToTablePrefix   string `help:"--inbox-table-prefix of the hark that will use --to." default:"hark_"`
}

// Run copies the inbox.
func (c *MigrateInboxCmd) Run(ctx context.Context, s Streams) error {
	o := hark.MigrateInboxOptions{
		From:    hark.InboxDatabase{Database: hark.Secret{Value: c.From, File: c.FromFile}, Schema: c.FromSchema, TablePrefix: c.FromTablePrefix},
		To:      hark.InboxDatabase{Database: hark.Secret{Value: c.To, File: c.ToFile}, Schema: c.ToSchema, TablePrefix: c.ToTablePrefix},
		Replace: c.Replace,
	}
	var done, total int64
	bar := newProgress(s.Err, "inbox")
	o.Progress = func(d, t int64) {
		done, total = d, t
		if !c.Quiet && d > 0 {
			bar.rows(d, t)
		}
	}
	stop := ticking(bar)
	copied, err := hark.MigrateInbox(ctx, o)
	stop()
	bar.end()
	switch {
	case errors.Is(err, context.Canceled) && total > 0:
		bar.printf("stopped after %s of %s rows; run the same command again, and it goes on from there", formatCount(done), formatCount(total))
		return err
	case err != nil:
		return asUsage(err)
	case copied.Already:
		fmt.Fprintf(s.Out, "Nothing to copy: an earlier run has copied everything.\n")
		return nil
	}
	position := "The inbox has no position in the log yet."
	if copied.Position != "" {
		position = "A notifier on the new database continues after " + copied.Position + "."
	}
	fmt.Fprintf(s.Out, "Copied %s notifications, and %s marks on broadcasts. %s\n", formatCount(copied.Notifications), formatCount(copied.Marks), position)
	return nil
}
