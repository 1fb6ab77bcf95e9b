// Package natsd runs a NATS server with JetStream inside the process.
package natsd

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/hark-jobs/hark/internal/trouble"
)

// readyTimeout is the timeout of the start. JetStream reads the disk before it is ready.
const readyTimeout = 60 * time.Second

// tlsTimeout is the timeout of the TLS handshake of a connection.
const tlsTimeout = 5 * time.Second

// Options of an embedded server.
type Options struct {
	// Dir is the folder of JetStream. Only this server may use it.
	Dir string
	// Listen is a host:port for other programs. Defaults to none: only this process can connect.
	Listen string
	// User and Password, or Token, are the login of all connections. Default to none: no login is needed.
	User, Password, Token string
	// CertFile and KeyFile, if set, make connections from other programs use TLS.
	CertFile, KeyFile string
	// SyncAlways makes JetStream sync each write to disk before its ack. Without it JetStream syncs every two minutes.
	SyncAlways bool
	// Hold keeps other programs out until [Server.Listen] is called.
	Hold bool
	// Logger defaults to slog.Default().
	Logger *slog.Logger
}

// Server is a running embedded server. It is safe for concurrent use.
type Server struct {
	options   server.Options
	dir       string
	log       *slog.Logger
	unhealthy atomic.Pointer[error] // why nothing can be stored; nil if the server is healthy
	suspect   suspicion             // the failure of the last check; it belongs to Run

	mu      sync.Mutex
	server  *server.Server // replaced at each restart
	listens bool
	stopped bool

	keeper  *keeper          // writes the mark
	trouble *trouble.Trouble // failures of writing the mark
}

// Start verifies the folder, starts a server on it, and blocks until the server is ready. Losses are not an error: they are logged,
// and [Server.Losses] returns them.
//
// Errors wrap [ErrReadOnly] and an [*fs.PathError] if a folder cannot be written to, [ErrUnusable] if JetStream refuses
// the content of the folder, and [syscall.ENOSPC] if there is no space for a mark. After a first start a full disk has space for it.
func Start(o Options) (*Server, error) {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	s := &Server{dir: o.Dir, log: o.Logger.With("part", "nats"), options: server.Options{
		ServerName: "hark", DontListen: true, JetStream: true, StoreDir: o.Dir,
		SyncAlways: o.SyncAlways, NoSigs: true, MaxPayload: 1 << 20, NoSublistCache: true,
		Username: o.User, Password: o.Password, Authorization: o.Token,
	}}
	if o.CertFile != "" {
		config, err := server.GenTLSConfig(&server.TLSConfigOpts{CertFile: o.CertFile, KeyFile: o.KeyFile})
		if err != nil {
			return nil, fmt.Errorf("natsd: %w", err)
		}
		s.options.TLS, s.options.TLSConfig, s.options.TLSTimeout = true, config, tlsTimeout.Seconds()
	}
	if o.Listen != "" {
		if err := listen(&s.options, o.Listen); err != nil {
			return nil, err
		}
	}
	if err := s.firstStart(); err != nil {
		return nil, err
	}
	if !o.Hold && o.Listen != "" {
		if err := s.Listen(); err != nil {
			s.Stop()
			return nil, err
		}
	}
	return s, nil
}

// firstStart verifies the folder, starts the server, and compares the two.
func (s *Server) firstStart() error {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return fmt.Errorf("natsd: %w", err)
	}
	if err := writable(s.dir); err != nil {
		return err
	}
	k, err := openKeeper(s.dir, s.options.SyncAlways, s.log)
	if err != nil {
		return err
	}
	s.keeper = k
	s.trouble = trouble.New(s.log, "writing the mark of the log failed; retrying", "the mark of the log is written again", nil)
	if err := s.start(); err != nil {
		return err
	}
	if err := k.started(s.server); err != nil {
		s.server.Shutdown()
		s.server.WaitForShutdown()
		return err
	}
	return nil
}

// Listen lets other programs connect, at the address of the options. A second call does nothing.
func (s *Server) Listen() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listens || s.stopped || s.options.Host == "" {
		return nil
	}
	if err := s.accept(s.server); err != nil {
		return err
	}
	s.listens = true
	return nil
}

// accept makes a running server accept connections. s.mu must be held, except in Start.
func (s *Server) accept(ns *server.Server) error {
	accepts := make(chan struct{})
	ns.AcceptLoop(accepts)
	<-accepts
	addr, ok := ns.Addr().(*net.TCPAddr)
	if !ok {
		return errors.New("natsd: the embedded NATS server cannot listen; see the log")
	}
	s.options.Port = addr.Port // so that a restart keeps the port
	return nil
}

func listen(opts *server.Options, address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("natsd: listen address %q: %w", address, err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		return fmt.Errorf("natsd: listen address %q: %w", address, err)
	}
	opts.Host, opts.Port = host, n
	if n == 0 {
		opts.Port = server.RANDOM_PORT
	}
	return nil
}

// start starts a server with the options.
func (s *Server) start() error {
	options := s.options // the server changes its options
	ns, err := server.NewServer(&options)
	if err != nil {
		return fmt.Errorf("natsd: %w", err)
	}
	var fatal atomic.Pointer[string]
	ns.SetLoggerV2(logger{s.log, &fatal}, false, false, false)
	ns.Start() // returns at once; it logs fatal errors
	if reason := fatal.Load(); reason != nil {
		ns.Shutdown()
		ns.WaitForShutdown()
		return fmt.Errorf("%w: %s", ErrUnusable, strings.TrimPrefix(*reason, "Can't start JetStream: "))
	}
	if !ns.ReadyForConnections(readyTimeout) || !ns.JetStreamEnabled() {
		ns.Shutdown()
		ns.WaitForShutdown()
		return errors.New("natsd: the embedded NATS server did not start; see the log")
	}
	if s.listens {
		if err := s.accept(ns); err != nil {
			ns.Shutdown()
			ns.WaitForShutdown()
			return err
		}
	}
	s.server = ns
	return nil
}

// restart stops the server and starts it again on the same folder. Connections reconnect by themselves.
func (s *Server) restart() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return nil
	}
	s.keeper.restarting()
	s.server.Shutdown()
	s.server.WaitForShutdown()
	if err := s.start(); err != nil {
		return err
	}
	return s.keeper.keep(s.server)
}

func (s *Server) current() *server.Server {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.server
}

// InProcessConn implements [nats.InProcessConnProvider] with the current server.
func (s *Server) InProcessConn() (net.Conn, error) { return s.current().InProcessConn() }

// Login returns the option that a connection needs to log in.
func (s *Server) Login() nats.Option {
	if s.options.Authorization != "" {
		return nats.Token(s.options.Authorization)
	}
	return nats.UserInfo(s.options.Username, s.options.Password)
}

// Connect returns a new connection inside the process.
func (s *Server) Connect(opts ...nats.Option) (*nats.Conn, error) {
	nc, err := nats.Connect("", append(opts, nats.InProcessServer(s), s.Login())...)
	if err != nil {
		return nil, fmt.Errorf("natsd: connect: %w", err)
	}
	return nc, nil
}

// URL returns the URL for other programs; empty without [Options.Listen].
func (s *Server) URL() string {
	if addr := s.current().Addr(); addr != nil {
		scheme := "nats://"
		if s.options.TLS {
			scheme = "tls://"
		}
		return scheme + addr.String()
	}
	return ""
}

// Stop stops the server and syncs the folder to disk. It blocks until that is done.
func (s *Server) Stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return
	}
	s.stopped = true
	if err := s.keeper.keep(s.server); err != nil {
		s.log.Warn("writing the mark of the log failed before the stop", "err", err)
	}
	s.server.Shutdown()
	s.server.WaitForShutdown()
	if err := s.keeper.stopped(); err != nil {
		s.log.Error("syncing the log failed at the stop; a power cut can lose the last messages", "err", err)
	}
}

// logger passes the server's log lines to slog, and keeps the first fatal one.
type logger struct {
	log   *slog.Logger
	fatal *atomic.Pointer[string]
}

func (l logger) Noticef(format string, v ...any) { l.log.Debug(fmt.Sprintf(format, v...)) }
func (l logger) Fatalf(format string, v ...any) {
	text := fmt.Sprintf(format, v...)
	l.fatal.CompareAndSwap(nil, &text)
	l.log.Error(text)
}
func (l logger) Errorf(format string, v ...any) { l.log.Error(fmt.Sprintf(format, v...)) }
func (l logger) Warnf(format string, v ...any) {
	if strings.HasPrefix(format, "Plaintext passwords detected") {
		return // the passwords are in memory, not in a configuration file
	}
	l.log.Warn(fmt.Sprintf(format, v...))
}
func (l logger) Debugf(string, ...any) {}
func (l logger) Tracef(string, ...any) {}
