// Command embed is a web application with hark inside: its own Gin router, its own login, its own database, and hark's API
// below /internal/hark/. It needs nothing else:
//
//	go run ./examples/embed
//
// Then open http://localhost:8080 and sign in as ana or bob; the password is the name. With --database postgres://… the
// application and hark's inbox are in PostgreSQL, and not in a SQLite file.
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
	var o options
	listen := flag.String("listen", "localhost:8080", "Where to answer HTTP.")
	flag.StringVar(&o.data, "data", "embed-data", "Folder of the SQLite file, and of hark's NATS server.")
	flag.StringVar(&o.database, "database", "", "URL of a PostgreSQL database, in place of SQLite.")
	flag.Parse()
	o.log = slog.Default()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", *listen)
	if err != nil {
		log.Fatal(err)
	}
	log.Printf("open http://%s", listener.Addr())
	if err := run(ctx, listener, o); err != nil {
		log.Fatal(err)
	}
}

// run serves the application until ctx ends. First the streams end, then the requests, then the databases.
func run(ctx context.Context, listener net.Listener, o options) error {
	a, err := newApp(ctx, o)
	if err != nil {
		return err
	}
	defer a.close()
	return a.hark.Serve(ctx, listener, a.router)
}
