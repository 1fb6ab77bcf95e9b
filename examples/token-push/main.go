// Command token-push shows who is connected, and lets a manager end the streams of a user, at any of several servers. Tokens
// are in headers, and never in URLs. It needs nothing else:
//
//	go run ./examples/token-push
//
// It starts two servers, each in a process of its own: the first one has NATS inside, and the second one is this program
// again, with the address of that NATS. Open http://localhost:8080 as ana, http://localhost:8081 in another browser as bo,
// and one of them in a third tab as manager.
package main

import (
	"context"
	"errors"
	"flag"
	"io"
	"log"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"github.com/gin-gonic/gin"
)

func main() {
	listen := flag.String("listen", "localhost:8080", "Where the server answers HTTP.")
	second := flag.String("second", "localhost:8081", "Where the second server answers HTTP.")
	data := flag.String("data", "token-push-data", "Folder that the servers share.")
	nats := flag.String("nats", "", "NATS of the first server. With it this is the second server, which ends with its input.")
	flag.Parse()
	gin.SetMode(gin.ReleaseMode) // it prints no routes
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", *listen)
	if err != nil {
		log.Fatal(err)
	}
	if *nats == "" {
		log.Printf("the first server is at http://%s", listener.Addr())
		err = runFirst(ctx, listener, *second, *data)
	} else {
		log.Printf("the second server is at http://%s", listener.Addr())
		err = runSecond(ctx, listener, *nats, *data)
	}
	if err != nil {
		log.Fatal(err)
	}
}

// runFirst runs the server that has NATS, and the second server in another process, until ctx ends or one of the two fails.
// The second one ends first, since it needs NATS until its end.
func runFirst(ctx context.Context, listener net.Listener, second, data string) error {
	a, err := newApp(ctx, data, "", slog.Default())
	if err != nil {
		return err
	}
	defer a.close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	process, err := startSecond(ctx, second, a.hark.NATSURL(), data)
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- process.Wait(); stop() }()
	err = a.hark.Serve(serving, listener, a.router)
	cancel()
	return errors.Join(err, <-ended)
}

// startSecond starts the second server. It ends when its input ends: when ctx ends, and also if this process is killed.
func startSecond(ctx context.Context, listen, nats, data string) (*exec.Cmd, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	process := exec.Command(program, "-listen", listen, "-nats", nats, "-data", data)
	process.Stdout, process.Stderr = os.Stdout, os.Stderr
	input, err := process.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := process.Start(); err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { _ = input.Close() })
	return process, nil
}

// runSecond runs a server that uses the NATS of the first one, until ctx or the input ends.
func runSecond(ctx context.Context, listener net.Listener, nats, data string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { _, _ = io.Copy(io.Discard, os.Stdin); cancel() }()
	a, err := newApp(ctx, data, nats, slog.Default())
	if err != nil {
		return err
	}
	defer a.close()
	return a.hark.Serve(ctx, listener, a.router)
}
