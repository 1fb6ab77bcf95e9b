package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/hark-jobs/hark/client"
)

// Exit codes. A command that a signal ended leaves with 128 and the signal's number.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

// CLI is the command line: a field for each command. Every flag can also be set by an environment variable, HARK_ and its
// name; the flag has precedence.
type CLI struct {
	Serve    ServeCmd    `cmd:"" help:"Run everything in one process: NATS, inbox, worker, HTTP service and page."`
	Notifier NotifierCmd `cmd:"" help:"Run the HTTP service alone, for many machines."`
	Worker   WorkerCmd   `cmd:"" help:"Run the worker alone, for many machines."`

	Setup      SetupCmd      `cmd:"" help:"Create the streams and buckets in NATS, and change their settings."`
	NATSConfig NATSConfigCmd `cmd:"" name:"nats-config" help:"Print an account of NATS with a user for each role, who may do nothing else."`
	Health     HealthCmd     `cmd:"" help:"Call a health check, and fail unless hark is ready."`
	Check      CheckCmd      `cmd:"" help:"Check the proxies between here and hark: whether events arrive live."`
	Backup     BackupCmd     `cmd:"" help:"Save hark's data in NATS to a folder."`
	Restore    RestoreCmd    `cmd:"" help:"Restore a backup of hark backup, or check it."`
	Migrate    MigrateCmd    `cmd:"" help:"Copy an inbox to another database."`

	Export ExportCmd `cmd:"" help:"Export a dataset to a file: enqueue the job, show its progress, download the file."`
	Jobs   JobsCmd   `cmd:"" help:"List my jobs, newest first."`
	Watch  WatchCmd  `cmd:"" help:"Print my jobs and notifications, live."`
	Notify NotifyCmd `cmd:"" help:"Send a notification to a user, or to everyone."`
	Token  TokenCmd  `cmd:"" help:"Make a token for a user."`
	Revoke RevokeCmd `cmd:"" help:"Revoke the tokens of a user, or one token."`

	Version kong.VersionFlag `help:"Print the version." env:"-"`
}

// Streams are the input and output of a command. Results go to Out, everything else to Err.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
}

// usageError is an invalid command line.
type usageError struct{ sentence string }

func (e *usageError) Error() string { return e.sentence }

func badUsage(format string, args ...any) error { return &usageError{fmt.Sprintf(format, args...)} }

// exited is the panic with which [kong.Kong] ends a command after --help and --version.
type exited int

// run runs one command line and returns the exit code. It reads the environment for the HARK_ variables.
func run(ctx context.Context, args []string, s Streams) (code int) {
	defer func() {
		switch e := recover().(type) {
		case nil:
		case exited:
			code = int(e)
		default:
			panic(e)
		}
	}()
	parser, err := kong.New(&CLI{},
		kong.Name("hark"),
		kong.Description("hark runs slow work and tells its users, live, when it is done."),
		kong.DefaultEnvars("HARK"),
		kong.Vars{"version": version()},
		kong.Writers(s.Out, s.Err),
		kong.Exit(func(code int) { panic(exited(code)) }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
	)
	if err != nil {
		return report(ctx, s.Err, err)
	}
	command, err := parser.Parse(args)
	if err != nil {
		return report(ctx, s.Err, badUsage("%v; see hark --help", err))
	}
	command.BindTo(ctx, (*context.Context)(nil))
	return report(ctx, s.Err, command.Run(s))
}

// report writes the error of a command, in one sentence, and returns its exit code.
func report(ctx context.Context, w io.Writer, err error) int {
	if err == nil {
		return exitOK
	}
	sentence := strings.TrimSuffix(printable(err.Error()), ".")
	var unreachable *client.UnreachableError
	if errors.As(err, &unreachable) {
		sentence += "; check that the server is running and the URL is right"
	}
	var interrupt *interruptError
	if errors.As(context.Cause(ctx), &interrupt) {
		if !errors.Is(err, context.Canceled) {
			fmt.Fprintln(w, "hark: "+sentence)
		}
		return interrupt.ExitCode()
	}
	fmt.Fprintln(w, "hark: "+sentence)
	var usage *usageError
	if errors.As(err, &usage) {
		return exitUsage
	}
	return exitFailed
}

// buildVersion is set when hark is built from sources without their history: -ldflags "-X main.buildVersion=v1.2.3".
var buildVersion string

// version returns the release, the Go version and the platform.
func version() string {
	return fmt.Sprintf("hark %s %s %s/%s", release(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

// release is buildVersion, the module's version, or the revision of a working tree.
func release() string {
	v := buildVersion
	if info, ok := debug.ReadBuildInfo(); ok && v == "" {
		v = moduleVersion(info)
	}
	return cmp.Or(v, "(unknown)")
}

// moduleVersion returns the version of the main module, and of one that has none, the revision of its working tree.
func moduleVersion(info *debug.BuildInfo) string {
	if info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	settings := make(map[string]string)
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	revision := settings["vcs.revision"]
	if revision == "" {
		return "(devel)"
	}
	if settings["vcs.modified"] == "true" {
		revision += "+dirty"
	}
	return revision + " of " + settings["vcs.time"]
}

// isFile returns the file behind a stream, if it is one.
func isFile(w io.Writer) (*os.File, bool) {
	f, ok := w.(*os.File)
	return f, ok
}
