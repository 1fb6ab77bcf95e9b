package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hark-jobs/hark/internal/backup"
)

// backupSource is the source or the destination of a backup: NATS servers, or the data folder of a stopped hark.
type backupSource struct {
	natsFlags
	Data string `help:"Data folder of a hark serve that is stopped, in place of --nats." env:"-" type:"path" placeholder:"DIR"`
}

// open returns a connection to the data, and what ends it. With create the data folder need not be there.
func (f *backupSource) open(ctx context.Context, s Streams, name string, create bool) (nc *nats.Conn, end func(), err error) {
	log := newLog(s, &processFlags{})
	if f.Data != "" {
		if f.NATS != "" {
			return nil, nil, badUsage("give either --nats or --data")
		}
		if f.JSDomain != "" || f.JSAPIPrefix != "" {
			return nil, nil, badUsage("--js-domain and --js-api-prefix are for --nats; leave them out with --data")
		}
		if err := f.location().Check(); err != nil {
			return nil, nil, badUsage("%s", strings.TrimPrefix(err.Error(), "joblog: "))
		}
		if !create {
			if _, err := os.Stat(filepath.Join(f.Data, "nats")); err != nil {
				return nil, nil, fmt.Errorf("--data %s is not a data folder of hark serve: it has no folder nats", f.Data)
			}
		}
		return backup.Local(f.Data, log)
	}
	if f.NATS == "" {
		return nil, nil, badUsage("%s needs --nats, the URL of the NATS servers, or --data, the folder of a hark that is stopped", name)
	}
	conn, err := f.dial(s, name)
	if err != nil {
		return nil, nil, err
	}
	err = f.retry(ctx, conn, backupWait, log, func(context.Context) error { return nil })
	if err != nil {
		conn.Close()
		return nil, nil, err
	}
	return conn.Conn, conn.Close, nil
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
	nc, end, err := c.open(ctx, s, "hark backup", false)
	if err != nil {
		return err
	}
	defer end()
	summary, err := backup.Backup(ctx, nc, c.location(), c.Dir, newLog(s, &processFlags{}))
	if err != nil {
		return err
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
		summary, err := backup.Check(c.Dir)
		if err == nil {
			printSummary(s.Out, summary)
		}
		return err
	}
	nc, end, err := c.open(ctx, s, "hark restore", true)
	if err != nil {
		return err
	}
	defer end()
	summary, err := backup.Restore(ctx, nc, c.Dir, backup.Options{
		Location: c.location(),
		Replicas: c.Replicas, MaxAge: c.MaxAge, FileAge: c.FileAge, Replace: c.Replace, Logger: newLog(s, &processFlags{}),
	})
	if err != nil {
		return err
	}
	printSummary(s.Out, summary)
	return nil
}

func printSummary(w io.Writer, summary backup.Summary) {
	fmt.Fprintf(w, "Backup of %s, which took %v.\n", summary.Began.Format(time.RFC3339), summary.Ended.Sub(summary.Began).Round(time.Millisecond))
	for _, stream := range summary.Streams {
		fmt.Fprintf(w, "%-16s %8d messages, %10s, %d consumers", stream.Name, stream.Messages, size(stream.FileBytes), stream.Consumers)
		if stream.Expired > 0 {
			fmt.Fprintf(w, "; %d left out, since they are too old", stream.Expired)
		}
		fmt.Fprintln(w)
	}
}
