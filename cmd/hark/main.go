// Command hark runs slow work and tells its users when it is done. See hark --help, and docs/ for more.
package main

import (
	"context"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
)

// gcPercent is how much garbage, in hundredths of what is live, is left before it is collected, if GOGC does not say. A
// collection takes milliseconds of all cores, which are what the slowest notifications wait for; idle streams are too
// small for its being rarer to cost much, and what a burst leaves is given back to the operating system anyway.
const gcPercent = 200

func main() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	ctx := signalled(os.Exit)
	os.Exit(run(ctx, hideSecrets(os.Args)[1:], Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
}

// signalled returns a context that the first SIGINT or SIGTERM cancels, with an [*interruptError] as its
// cause. Whoever sends a second one wants out: exit is called at once.
func signalled(exit func(code int)) context.Context {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		cancel(&interruptError{<-signals})
		exit((&interruptError{<-signals}).ExitCode())
	}()
	return ctx
}

// interruptError says that a signal ended the command.
type interruptError struct{ signal os.Signal }

func (e *interruptError) Error() string { return "stopped by " + e.signal.String() }

// ExitCode returns 128 and the signal's number, as shells do.
func (e *interruptError) ExitCode() int {
	if n, ok := e.signal.(syscall.Signal); ok {
		return 128 + int(n)
	}
	return exitFailed
}
