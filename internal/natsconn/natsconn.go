// Package natsconn connects to external NATS servers, with every login of NATS and TLS, and reconnects for ever. It also retries a
// refused login, since the account may not exist yet or its password may be about to change.
package natsconn

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hark-jobs/hark/internal/secret"
	"github.com/hark-jobs/hark/internal/trouble"
	"github.com/nats-io/nats.go"
)

// Options are the URLs of the servers and the login. At most one login may be set: a user with a password, a token, an nkey or a
// credentials file.
type Options struct {
	URL       string // one or several, separated by commas; it may have a login
	User      string
	Password  secret.Secret // read again at each connect
	Token     secret.Secret // read again at each connect
	NKeyFile  string        // holds the seed
	CredsFile string        // holds a user JWT and its seed
	CAFile    string        // PEM certificates that verify the servers. Defaults to those of the system.
	CertFile  string        // the client's certificate
	KeyFile   string        // the key of CertFile
	// InboxPrefix begins the subjects of responses. Defaults to _INBOX.
	InboxPrefix string
}

// Check returns an error if the options contradict each other or a file cannot be read. It does not connect.
func (o *Options) Check() error {
	_, err := o.login()
	return err
}

// login returns the options of nats.go, without the URL.
func (o *Options) login() (opts []nats.Option, err error) {
	inURL, err := checkURLs(o.URL)
	if err != nil {
		return nil, err
	}
	logins := 0
	for _, given := range []bool{inURL, o.User != "", o.Token.IsSet(), o.NKeyFile != "", o.CredsFile != ""} {
		if given {
			logins++
		}
	}
	switch {
	case logins > 1:
		return nil, errors.New("more than one login is set; use a login in the URL, a user with a password, a token, an nkey or a credentials file")
	case o.Password.IsSet() && o.User == "":
		return nil, errors.New("a NATS password is set without a user")
	case (o.CertFile == "") != (o.KeyFile == ""):
		return nil, errors.New("a client certificate needs both its certificate and its key")
	}
	for _, s := range []secret.Secret{o.Password, o.Token} {
		if _, err := s.Read(); err != nil {
			return nil, err
		}
	}
	switch {
	case o.User != "":
		opts = append(opts, nats.UserInfoHandler(func() (string, string) { return o.User, latest(o.Password) }))
	case o.Token.IsSet():
		opts = append(opts, nats.TokenHandler(func() string { return latest(o.Token) }))
	case o.NKeyFile != "":
		nkey, err := nats.NkeyOptionFromSeed(o.NKeyFile)
		if err != nil {
			return nil, fmt.Errorf("the nkey in %s cannot be used: %w", o.NKeyFile, err)
		}
		opts = append(opts, nkey)
	case o.CredsFile != "":
		if _, err := os.Stat(o.CredsFile); err != nil {
			return nil, fmt.Errorf("the credentials cannot be read: %w", err)
		}
		opts = append(opts, nats.UserCredentials(o.CredsFile))
	}
	if o.InboxPrefix != "" {
		prefix := nats.CustomInboxPrefix(o.InboxPrefix)
		if err := prefix(new(nats.Options)); err != nil {
			return nil, fmt.Errorf("the prefix of inboxes %.60q cannot be used; it is like _INBOX_hark, without wildcards", o.InboxPrefix)
		}
		opts = append(opts, prefix)
	}
	if o.CAFile != "" {
		pem, err := os.ReadFile(o.CAFile)
		if err != nil {
			return nil, fmt.Errorf("the CA cannot be read: %w", err)
		}
		if !x509.NewCertPool().AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no PEM certificate", o.CAFile)
		}
		opts = append(opts, nats.RootCAs(o.CAFile))
	}
	if o.CertFile != "" {
		if _, err := tls.LoadX509KeyPair(o.CertFile, o.KeyFile); err != nil {
			return nil, fmt.Errorf("the client certificate cannot be used: %w", err)
		}
		opts = append(opts, nats.ClientCert(o.CertFile, o.KeyFile))
	}
	return opts, nil
}

// latest reads a secret again. If that fails, the server refuses the login, which is logged and retried.
func latest(s secret.Secret) string {
	value, _ := s.Read()
	return value
}

// A silent server counts as lost after pingInterval * (pingsOut + 1) at most.
const (
	pingInterval = time.Second
	pingsOut     = 2
)

// echo makes the server send messages also to the connection that has published them, whatever a program has set for its own
// connection: notifiers ask themselves, too.
func echo(o *nats.Options) error {
	o.NoEcho = false
	return nil
}

// dialTimeout is the timeout of connecting to one server. [Connect] blocks for the first one.
const dialTimeout = time.Second

// Conn is a connection that reconnects until it is closed. It is safe for concurrent use.
type Conn struct {
	*nats.Conn
	trouble    *trouble.Trouble
	reconnects atomic.Uint64
}

// Reconnects returns the number of reconnects.
func (c *Conn) Reconnects() uint64 { return c.reconnects.Load() }

// Err returns why there is no connection, nil if there is one. It does not block.
func (c *Conn) Err() error {
	if c.IsConnected() {
		return nil
	}
	// Before the first connection only LastError shows that a login is refused.
	if err := c.LastError(); Refused(err) {
		c.trouble.Begin(err)
	}
	if err := c.trouble.Err(); err != nil {
		return err
	}
	return nats.ErrDisconnected
}

// Refused reports whether err says that the servers refuse the login. While it connects, nats.go returns the server's text and not
// an error of its own.
func Refused(err error) bool {
	if err == nil {
		return false
	}
	text := strings.ToLower(err.Error())
	for _, refusal := range []error{nats.ErrAuthorization, nats.ErrAuthExpired, nats.ErrAuthRevoked, nats.ErrAccountAuthExpired} {
		if errors.Is(err, refusal) || strings.Contains(text, refusal.Error()) {
			return true
		}
	}
	return false
}

// The pauses between two rounds of all servers, before jitter.
const (
	minPause = 100 * time.Millisecond
	maxPause = time.Second
)

// pause returns the pause after this number of rounds. It grows, so that servers do not refuse a login ten times a second. It starts
// short, so that a reconnect after a restart of the server is fast.
func pause(rounds int) time.Duration {
	p := min(minPause<<min(rounds, 10), maxPause)
	return p/2 + rand.N(p)
}

// Connect returns a connection, which may not be connected yet: it retries until it is closed. It logs why it is not connected, at
// once and then once a minute. Other errors go to others. It blocks for one attempt to connect.
func Connect(o Options, name string, log *slog.Logger, others nats.ErrHandler, more ...nats.Option) (*Conn, error) {
	login, err := o.login()
	if err != nil {
		return nil, fmt.Errorf("natsconn: %w", err)
	}
	return connect(o.URL, name, log, others, append(append(login, nats.RetryOnFailedConnect(true)), more...))
}

// Like returns another connection with the options of nc: its servers, login and TLS. Otherwise it behaves like one of
// [Connect]. It does not change nc. It blocks for one attempt to connect.
func Like(nc *nats.Conn, name string, log *slog.Logger, others nats.ErrHandler, more ...nats.Option) (*Conn, error) {
	return open(nc.Opts, name, nc.ConnectedUrlRedacted(), log, others, append([]nats.Option{nats.RetryOnFailedConnect(true)}, more...))
}

// connect returns a connection that reconnects by itself.
func connect(urls, name string, log *slog.Logger, others nats.ErrHandler, more []nats.Option) (*Conn, error) {
	o := nats.GetDefaultOptions()
	if urls != "" {
		for one := range strings.SplitSeq(urls, ",") {
			o.Servers = append(o.Servers, strings.TrimSpace(one))
		}
	}
	return open(o, name, Redacted(urls), log, others, more)
}

func open(o nats.Options, name, server string, log *slog.Logger, others nats.ErrHandler, more []nats.Option) (*Conn, error) {
	log = log.With("connection", name, "server", server)
	c := &Conn{trouble: trouble.New(log, "NATS connection failed; reconnecting", "NATS connected", nats.ErrNoServers)}
	ours := []nats.Option{
		nats.Name(name), nats.MaxReconnects(-1), nats.IgnoreAuthErrorAbort(),
		nats.CustomReconnectDelay(pause), nats.Timeout(dialTimeout),
		nats.PingInterval(pingInterval), nats.MaxPingsOutstanding(pingsOut), echo,
		nats.ErrorHandler(func(nc *nats.Conn, sub *nats.Subscription, err error) {
			if Refused(err) {
				c.trouble.Begin(err)
				return
			}
			others(nc, sub, err)
		}),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			// The first attempt ends with ErrNoServers. The second one, a moment later, has the reason.
			if err != nil && !errors.Is(err, nats.ErrNoServers) {
				c.trouble.Begin(err)
			}
		}),
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) { c.trouble.Begin(err) }),
		nats.ConnectHandler(func(*nats.Conn) { c.trouble.Over() }),
		nats.ReconnectHandler(func(*nats.Conn) { c.reconnects.Add(1); c.trouble.Over() }),
	}
	for _, option := range append(ours, more...) {
		if option == nil {
			continue
		}
		if err := option(&o); err != nil {
			return nil, fmt.Errorf("natsconn: %w", err)
		}
	}
	nc, err := o.Connect()
	if err != nil {
		return nil, fmt.Errorf("natsconn: %w", err)
	}
	c.Conn = nc
	return c, nil
}

// InProcess returns a connection to a server in this process. It blocks for one attempt to connect.
func InProcess(server nats.InProcessConnProvider, name string, log *slog.Logger, others nats.ErrHandler, login ...nats.Option) (*Conn, error) {
	return connect("", name, log, others, append(login, nats.InProcessServer(server)))
}

// parse parses one URL like nats.go does. Its error does not contain the URL, which may have a password.
func parse(one string) (*url.URL, error) {
	one = strings.TrimSpace(one)
	if !strings.Contains(one, "://") {
		one = "nats://" + one
	}
	u, err := url.Parse(one)
	if err != nil || u.Host == "" {
		return nil, errors.New("the URL of NATS is malformed; write special characters of a password as %XX, or use a file for the password")
	}
	return u, nil
}

// checkURLs reports whether one of the URLs has a login.
func checkURLs(urls string) (login bool, err error) {
	if urls == "" {
		return false, nil
	}
	for one := range strings.SplitSeq(urls, ",") {
		u, err := parse(one)
		if err != nil {
			return false, err
		}
		login = login || u.User != nil
	}
	return login, nil
}

// Redacted returns URLs without their logins.
func Redacted(urls string) string {
	if urls == "" {
		return "in this process"
	}
	list := strings.Split(urls, ",")
	for i, one := range list {
		u, err := parse(one)
		if err != nil {
			list[i] = "(not a URL)"
			continue
		}
		u.User = nil
		list[i] = u.String()
	}
	return strings.Join(list, ",")
}
