package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os/user"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/hark-jobs/hark"
	"github.com/hark-jobs/hark/client"
	"github.com/hark-jobs/hark/notifier/auth"
)

// Connection are the flags of every command that calls a server.
type Connection struct {
	URL       string `name:"url" default:"http://localhost:4280" help:"The server."`
	Token     string `secret:"" help:"The token to send. By default one is made, if the server's secret is available." placeholder:"JWT"`
	TokenFile string `help:"File with that token." type:"path" placeholder:"FILE"`
	Keys
}

// Keys are the flags for the secret that signs tokens.
type Keys struct {
	JWTSecret     string `name:"jwt-secret" secret:"" help:"The server's HS256 secret. By default the one in the data folder." placeholder:"SECRET"`
	JWTSecretFile string `name:"jwt-secret-file" help:"File with that secret." type:"path" placeholder:"FILE"`
	Data          string `help:"The server's data folder, if it is on this machine." placeholder:"DIR" type:"path"`
	claimFlags
}

// As is the flag for the user of a token that is made.
type As struct {
	User string `help:"The user of the token, if one is made. By default your login name." placeholder:"NAME"`
}

// connect returns a client for the server. It does no I/O.
func (c *Connection) connect(userName string, scope ...string) (*client.Client, error) {
	o := client.Options{URL: c.URL}
	var err error
	if o.Token, err = (hark.Secret{Value: c.Token, File: c.TokenFile}).Read(); err != nil {
		return nil, badUsage("--token-file: %v", err)
	}
	if o.Token == "" {
		issuer, err := c.issuer()
		if err != nil {
			return nil, err
		}
		if userName == "" {
			if userName, err = loginName(); err != nil {
				return nil, err
			}
		}
		o.TokenFunc = (&tokenMaker{issuer: issuer, user: userName, scope: scope}).token
	}
	server, err := client.New(o)
	if err != nil {
		return nil, badUsage("--url %s is not a URL like http://localhost:4280", c.URL)
	}
	return server, nil
}

// issuer makes tokens with the given secret, or, for a server on this machine, with the one in its data folder.
func (c *Connection) issuer() (*auth.Issuer, error) {
	key, err := c.Keys.given()
	if err != nil {
		return nil, err
	}
	if len(key) == 0 {
		if !isLocal(c.URL) {
			return nil, badUsage("no token: give --token or HARK_TOKEN to call %s", c.URL)
		}
		path, err := c.secretPath()
		if err != nil {
			return nil, err
		}
		key, err = auth.LoadSecret(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, badUsage("no token: give --token or HARK_TOKEN, or run hark serve on this machine first, which keeps its secret in %s", path)
		}
		if err != nil {
			return nil, err
		}
	}
	return c.newIssuer(key)
}

// newIssuer returns an issuer of tokens that a server with the same flags accepts.
func (k *Keys) newIssuer(key []byte) (*auth.Issuer, error) {
	o := auth.IssuerOptions{Secret: key, Issuer: k.JWTIssuer, UserClaim: k.UserClaim, Scopes: k.ScopeMap}
	if len(k.JWTAudience) > 0 {
		o.Audience = k.JWTAudience[0] // the server accepts each of them
	}
	return auth.NewIssuer(o)
}

// given returns the secret of the flags, or nil.
func (k *Keys) given() ([]byte, error) {
	text, err := (hark.Secret{Value: k.JWTSecret, File: k.JWTSecretFile}).Read()
	if err != nil {
		return nil, badUsage("--jwt-secret-file: %v", err)
	}
	return []byte(text), nil
}

func (k *Keys) secretPath() (string, error) {
	dir := k.Data
	if dir == "" {
		var err error
		if dir, err = DefaultDataDir(); err != nil {
			return "", err
		}
	}
	return filepath.Join(dir, secretFile), nil
}

// tokenMaker makes tokens that are valid for an hour, and a new one five minutes before the end.
type tokenMaker struct {
	issuer *auth.Issuer
	user   string
	scope  []string

	mu     sync.Mutex
	last   string
	expiry time.Time
}

func (m *tokenMaker) token(context.Context) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if time.Until(m.expiry) > 5*time.Minute {
		return m.last, nil
	}
	token, id, err := m.issuer.Issue(m.user, m.scope, time.Hour)
	if err != nil {
		return "", err
	}
	m.last, m.expiry = token, id.ExpiresAt
	return token, nil
}

// isLocal reports whether the host of the URL is this machine.
func isLocal(text string) bool {
	u, err := url.Parse(text)
	if err != nil {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	return u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
}

// loginName returns the name of the operating system's user, without a Windows domain.
func loginName() (string, error) {
	me, err := user.Current()
	if err != nil {
		return "", fmt.Errorf("find your login name (give the user with --user): %w", err)
	}
	return me.Username[strings.LastIndex(me.Username, `\`)+1:], nil
}
