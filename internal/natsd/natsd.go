// Package natsd runs a NATS server with JetStream inside the process.
package natsd

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// readyTimeout bounds the start: JetStream replays what is on disk before it is ready.
const readyTimeout = 60 * time.Second

// tlsTimeout bounds the TLS handshake of a connection.
const tlsTimeout = 5 * time.Second

// Options of an embedded server.
type Options struct {
	// Dir holds what JetStream stores. It must belong to this server alone.
	Dir string
	// Listen is a host:port for other programs; empty means that only this process can connect.
	Listen string
	// User and Password, or Token, are what everybody needs to connect with. Empty means that no login is needed.
	User, Password, Token string
	// CertFile and KeyFile make connections from other programs use TLS.
	CertFile, KeyFile string
	// SyncAlways makes JetStream sync to disk before it answers, and not every two minutes.
	SyncAlways bool
	Log        *slog.Logger // slog.Default()
}

// Server is an embedded server that runs. It is safe for concurrent use.
type Server struct {
	options server.Options
	dir     string
	log     *slog.Logger
	sick    atomic.Pointer[error] // why nothing is stored, if so

	mu      sync.Mutex
	server  *server.Server // another one after each restart
	stopped bool
}

// Start starts a server and blocks until it is ready.
func Start(o Options) (*Server, error) {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	s := &Server{dir: o.Dir, log: o.Log.With("part", "nats"), options: server.Options{
		ServerName: "hark", DontListen: o.Listen == "", JetStream: true, StoreDir: o.Dir,
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
	return s, s.start()
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
	options := s.options // the server writes on what it is given
	ns, err := server.NewServer(&options)
	if err != nil {
		return fmt.Errorf("natsd: %w", err)
	}
	ns.SetLoggerV2(logger{s.log}, false, false, false)
	ns.Start()
	if !ns.ReadyForConnections(readyTimeout) || !ns.JetStreamEnabled() {
		ns.Shutdown()
		ns.WaitForShutdown()
		return errors.New("natsd: the embedded NATS server did not start; see the log")
	}
	if addr, ok := ns.Addr().(*net.TCPAddr); ok {
		s.options.Port = addr.Port // to be found there after a restart too
	}
	s.server = ns
	return nil
}

// restart stops the server and starts it again on what it has stored. Connections come back by themselves.
func (s *Server) restart() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return nil
	}
	s.server.Shutdown()
	s.server.WaitForShutdown()
	return s.start()
}

func (s *Server) current() *server.Server {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.server
}

// InProcessConn implements [nats.InProcessConnProvider] for whichever server runs now.
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

// URL is where other programs connect; empty without [Options.Listen].
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

// Stop flushes what is stored to disk and ends the server. It blocks until that is done.
func (s *Server) Stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = true
	s.server.Shutdown()
	s.server.WaitForShutdown()
}

// logger hands the server's log lines to slog.
type logger struct{ log *slog.Logger }

func (l logger) Noticef(format string, v ...any) { l.log.Debug(fmt.Sprintf(format, v...)) }
func (l logger) Fatalf(format string, v ...any)  { l.log.Error(fmt.Sprintf(format, v...)) }
func (l logger) Errorf(format string, v ...any)  { l.log.Error(fmt.Sprintf(format, v...)) }
func (l logger) Warnf(format string, v ...any) {
	if strings.HasPrefix(format, "Plaintext passwords detected") {
		return // in a configuration file they would be; here they are in memory alone
	}
	l.log.Warn(fmt.Sprintf(format, v...))
}
func (l logger) Debugf(string, ...any) {}
func (l logger) Tracef(string, ...any) {}
