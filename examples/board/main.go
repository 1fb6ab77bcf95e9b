// Command board is a message board: POST /send sends a line to everyone, and GET /stream is the stream of new lines. It needs
// nothing else:
//
//	go run ./examples/board
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

	"github.com/gin-gonic/gin"
)

func main() {
	listen := flag.String("listen", "localhost:8080", "Where to answer HTTP.")
	data := flag.String("data", "board-data", "Folder of the lines, and of hark.")
	flag.Parse()
	gin.SetMode(gin.ReleaseMode) // it prints no routes
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", *listen)
	if err != nil {
		log.Fatal(err)
	}
	a, err := newApp(ctx, *data, slog.Default())
	if err != nil {
		log.Fatal(err)
	}
	log.Printf("open http://%s", listener.Addr())
	if err := a.serve(ctx, listener); err != nil {
		log.Fatal(err)
	}
}

// serve serves the application until ctx ends, and closes it.
func (a *app) serve(ctx context.Context, listener net.Listener) error {
	defer a.close()
	return a.hark.Serve(ctx, listener, a.router)
}
