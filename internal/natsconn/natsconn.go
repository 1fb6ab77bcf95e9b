// Package natsconn connects to NATS servers elsewhere: with every login and TLS that NATS has, and without ever giving
// up. A login that is refused is tried again, since the account may be yet to come or its password may be on its way.
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

// Options say where the servers are and how to log in. At most one login may be given: a user with a password, a token,
// an nkey or a credentials file.
type Options struct {
	URL       string // one or several, with commas between; a login in it counts as one
	User      string
	Password  secret.Secret // read again at each connect
	Token     secret.Secret // read again at each connect
	NKeyFile  string        // holds the seed
	CredsFile string        // holds a user JWT and its seed
	CAFile    string        // PEM certificates to verify the servers with, in place of the system's
	CertFile  string        // the client's certificate
	KeyFile   string        // and its key
}

// Check returns an error if the options contradict each other or a file cannot be read.
func (o *Options) Check() error {
	_, err := o.login()
	return err
}

// login returns what the options say beyond the URL.
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
		return nil, errors.New("more than one login is given; NATS takes one in the URL, a user with a password, a token, an nkey or a credentials file")
	case o.Password.IsSet() && o.User == "":
		return nil, errors.New("a NATS password is given without a user")
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

// latest reads a secret that could be read before. Without it the login is refused, which is logged and tried again.
func latest(s secret.Secret) string {
	value, _ := s.Read()
	return value
}

// A server from which nothing is heard is taken for lost after pingInterval * (pingsOut + 1).
const (
	pingInterval = 5 * time.Second
	pingsOut     = 2
)

// dialTimeout is how long one server may take to accept a connection. The first one is waited for by [Connect].
const dialTimeout = time.Second

// Conn is a connection that comes back by itself for as long as it is not closed.
type Conn struct {
	*nats.Conn
	trouble    *trouble.Trouble
	reconnects atomic.Uint64
}

// Reconnects returns how often the connection was lost and came back.
func (c *Conn) Reconnects() uint64 { return c.reconnects.Load() }

// Err returns why there is no connection at the moment, nil if there is one.
func (c *Conn) Err() error {
	if c.IsConnected() {
		return nil
	}
	// Until the first connection is made, nothing but this says that a login is refused.
	if err := c.LastError(); Refused(err) {
		c.trouble.Begin(err)
	}
	if err := c.trouble.Err(); err != nil {
		return err
	}
	return nats.ErrDisconnected
}

// Refused reports whether err says that the servers refuse the login. While a connection is made, nats.go has the
// server's own words for that, and no error of its own.
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
	shortestPause = 100 * time.Millisecond
	longestPause  = 2 * time.Second
)

// pause returns how long to wait after this number of rounds. It grows, so that servers that refuse a login need not say so ten
// times a second, and starts short, so that a server that restarts is found soon.
func pause(rounds int) time.Duration {
	p := min(shortestPause<<min(rounds, 10), longestPause)
	return p/2 + rand.N(p)
}

// Connect returns a connection, whether it has connected yet or not: that is tried until the connection is closed. It
// logs at once, and then once a minute, why there is none. Other errors go to others. It blocks for one try to connect.
func Connect(o Options, name string, log *slog.Logger, others nats.ErrHandler, more ...nats.Option) (*Conn, error) {
	login, err := o.login()
	if err != nil {
		return nil, fmt.Errorf("natsconn: %w", err)
	}
	return connect(o.URL, name, log, others, append(append(login, nats.RetryOnFailedConnect(true)), more...))
}

// connect makes a connection that comes back by itself.
func connect(urls, name string, log *slog.Logger, others nats.ErrHandler, more []nats.Option) (*Conn, error) {
	log = log.With("connection", name, "server", Redacted(urls))
	c := &Conn{trouble: trouble.New(log, "NATS cannot be reached; trying again until it can", "connection to NATS is there", nil)}
	nc, err := nats.Connect(urls, append([]nats.Option{
		nats.Name(name), nats.MaxReconnects(-1), nats.IgnoreAuthErrorAbort(),
		nats.CustomReconnectDelay(pause), nats.Timeout(dialTimeout),
		nats.PingInterval(pingInterval), nats.MaxPingsOutstanding(pingsOut),
		nats.ErrorHandler(func(nc *nats.Conn, sub *nats.Subscription, err error) {
			if Refused(err) {
				c.trouble.Begin(err)
				return
			}
			others(nc, sub, err)
		}),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				c.trouble.Begin(err)
			}
		}),
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) { c.trouble.Begin(err) }),
		nats.ConnectHandler(func(*nats.Conn) { c.trouble.Over() }),
		nats.ReconnectHandler(func(*nats.Conn) { c.reconnects.Add(1); c.trouble.Over() }),
	}, more...)...)
	if err != nil {
		return nil, fmt.Errorf("natsconn: %w", err)
	}
	c.Conn = nc
	return c, nil
}

// InProcess returns a connection to a server in this process.
func InProcess(server nats.InProcessConnProvider, name string, log *slog.Logger, others nats.ErrHandler, login ...nats.Option) (*Conn, error) {
	return connect("", name, log, others, append(login, nats.InProcessServer(server)))
}

// parse reads one of the URLs as nats.go does. Its error does not hold the URL, which may hold a password.
func parse(one string) (*url.URL, error) {
	if one = strings.TrimSpace(one); !strings.Contains(one, "://") {
		one = "nats://" + one
	}
	u, err := url.Parse(one)
	if err != nil || u.Host == "" {
		return nil, errors.New("the URL of NATS cannot be read; write special characters of a password in it as %XX, or give the password in a file")
	}
	return u, nil
}

// checkURLs reports whether a login stands in one of the URLs.
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
