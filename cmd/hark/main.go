// Command hark runs slow work and tells its users when it is done. See hark --help, and docs/ for more.
package main

import (
	"context"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	_ "time/tzdata" // exports in any time zone, also where the system has no zones: 0.4 MB

	"github.com/gin-gonic/gin"
)

// gcPercent is the default of GOGC. A collection takes milliseconds of all cores, and the slowest notifications wait for it, so
// it should be rare. That costs little memory: idle streams are small, and package app returns the garbage of a burst to the
// operating system.
const gcPercent = 200

func main() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	gin.SetMode(gin.ReleaseMode) // not in package notifier: the mode is a global of the process
	ctx := signalled(os.Exit)
	os.Exit(run(ctx, hideSecrets(os.Args)[1:], Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
}

// signalled returns a context that the first SIGINT or SIGTERM cancels, with an [*interruptError] as its
// cause. A second signal calls exit at once.
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
