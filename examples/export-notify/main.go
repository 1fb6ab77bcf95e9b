// Command export-notify is a Gin application with two routes of its own: one starts an export to Excel, the other is the stream
// on which each tab of the user gets its end. It needs nothing else:
//
//	go run ./examples/export-notify
//
// Then open http://localhost:8080 in several tabs and browsers.
package main

import (
	"context"
	"flag"
	"log"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

func main() {
	listen := flag.String("listen", "localhost:8080", "Where to answer HTTP.")
	data := flag.String("data", "export-notify-data", "Folder of hark.")
	allow := flag.String("allow", "", "Other origins whose pages may call, with commas between: http://localhost:5173,http://localhost:3000.")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", *listen)
	if err != nil {
		log.Fatal(err)
	}
	log.Printf("open http://%s", listener.Addr())
	var origins []string
	if *allow != "" {
		origins = strings.Split(*allow, ",")
	}
	if err := run(ctx, listener, options{data: *data, allow: origins, log: slog.Default()}); err != nil {
		log.Fatal(err)
	}
}

// run serves the application until ctx ends.
func run(ctx context.Context, listener net.Listener, o options) error {
	a, err := newApp(ctx, o)
	if err != nil {
		return err
	}
	return a.hark.Serve(ctx, listener, a.router)
}
