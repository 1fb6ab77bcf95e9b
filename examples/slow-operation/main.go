// Command slow-operation is a page with a long connection that says ping at once, and a slow operation in the background, whose
// progress and end go to the user who has started it. It needs nothing else:
//
//	go run ./examples/slow-operation
//
// Then open http://localhost:8080 in two browsers: each is a user.
package main

import (
	"context"
	"flag"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	listen := flag.String("listen", "localhost:8080", "Where to answer HTTP.")
	data := flag.String("data", "slow-operation-data", "Folder of hark.")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", *listen)
	if err != nil {
		log.Fatal(err)
	}
	log.Printf("open http://%s", listener.Addr())
	if err := run(ctx, listener, options{data: *data, step: halfASecond, log: slog.Default()}); err != nil {
		log.Fatal(err)
	}
}

// run serves the application until ctx ends.
func run(ctx context.Context, listener net.Listener, o options) error {
	a, err := newApp(ctx, o)
	if err != nil {
		return err
	}
	return a.hark.Serve(ctx, listener, http.NewCrossOriginProtection().Handler(a.router))
}

// halfASecond stands for real work. It ends early when the job is cancelled or the program stops.
func halfASecond(ctx context.Context) error {
	select {
	case <-time.After(500 * time.Millisecond):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
