package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/hark-jobs/hark"
)

// backupSource is the source or the destination of a backup: NATS servers, or the data folder of a stopped hark.
type backupSource struct {
	natsFlags
	Data string `help:"Data folder of a hark serve that is stopped, in place of --nats." env:"-" type:"path" placeholder:"DIR"`
}

// location says where the data is. name is that of the command.
func (f *backupSource) location(name string) (hark.Location, error) {
	switch {
	case f.NATS != "" && f.Data != "":
		return hark.Location{}, badUsage("give either --nats or --data")
	case f.NATS == "" && f.Data == "":
		return hark.Location{}, badUsage("%s needs --nats, the URL of the NATS servers, or --data, the folder of a hark that is stopped", name)
	}
	return f.natsFlags.location(f.Data, backupWait), nil
}

// backupWait is how long a connection may take.
const backupWait = 30 * time.Second

// BackupCmd is hark backup.
type BackupCmd struct {
	Dir string `arg:"" help:"A new folder for the backup." type:"path"`
	backupSource
}

// Run saves hark's streams and buckets.
func (c *BackupCmd) Run(ctx context.Context, s Streams) error {
	at, err := c.location("hark backup")
	if err != nil {
		return err
	}
	summary, err := hark.Backup(ctx, c.Dir, hark.BackupOptions{Location: at, Logger: newLog(s, &processFlags{})})
	if err != nil {
		return asUsage(err)
	}
	printSummary(s.Out, summary)
	return nil
}

// RestoreCmd is hark restore.
type RestoreCmd struct {
	Dir      string        `arg:"" help:"The folder of the backup." type:"existingdir"`
	Check    bool          `help:"Only check that the backup is whole, and print what is in it."`
	Replace  bool          `help:"Delete the streams and buckets of hark first."`
	Replicas int           `help:"How many servers of a NATS cluster keep each message; by default as many as when it was saved." placeholder:"N"`
	MaxAge   time.Duration `help:"How long jobs and notifications stay in the stream; by default as when it was saved. Older messages are left out." placeholder:"DURATION"`
	FileAge  time.Duration `help:"How long a file can be downloaded after its job ended; by default as when it was saved." placeholder:"DURATION"`
	backupSource
}

// Run restores a backup.
func (c *RestoreCmd) Run(ctx context.Context, s Streams) error {
	if c.Check {
		summary, err := hark.CheckBackup(c.Dir)
		if err == nil {
			printSummary(s.Out, summary)
		}
		return err
	}
	at, err := c.location("hark restore")
	if err != nil {
		return err
	}
	summary, err := hark.Restore(ctx, c.Dir, hark.RestoreOptions{
		Location: at, Replicas: c.Replicas, MaxAge: c.MaxAge, FileAge: c.FileAge, Replace: c.Replace, Logger: newLog(s, &processFlags{}),
	})
	if err != nil {
		return asUsage(err)
	}
	printSummary(s.Out, summary)
	return nil
}

func printSummary(w io.Writer, summary hark.BackupSummary) {
	fmt.Fprintf(w, "Backup of %s, which took %v.\n", summary.Began.Format(time.RFC3339), summary.Ended.Sub(summary.Began).Round(time.Millisecond))
	for _, stream := range summary.Streams {
		fmt.Fprintf(w, "%-16s %8d messages, %10s, %d consumers", stream.Name, stream.Messages, size(stream.FileBytes), stream.Consumers)
		if stream.Expired > 0 {
			fmt.Fprintf(w, "; %d left out, since they are too old", stream.Expired)
		}
		fmt.Fprintln(w)
	}
}
