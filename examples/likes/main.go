// Command likes is a page of comments with likes, ranked. Everybody who looks at it sees a like at once, and nobody's inbox
// fills. It needs nothing else:
//
//	go run ./examples/likes
//
// Then open http://localhost:8080 in two browsers.
package main

import (
	"context"
	"flag"
	"log"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	listen := flag.String("listen", "localhost:8080", "Where to answer HTTP.")
	data := flag.String("data", "likes-data", "Folder of the comments, and of hark.")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", *listen)
	if err != nil {
		log.Fatal(err)
	}
	log.Printf("open http://%s", listener.Addr())
	if err := run(ctx, listener, *data, slog.Default()); err != nil {
		log.Fatal(err)
	}
}

// run serves the application until ctx ends.
func run(ctx context.Context, listener net.Listener, data string, logger *slog.Logger) error {
	a, err := newApp(ctx, data, logger)
	if err != nil {
		return err
	}
	defer a.close()
	return a.hark.Serve(ctx, listener, a.router)
}
