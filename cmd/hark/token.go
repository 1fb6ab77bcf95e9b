package main

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/notifier/auth"
)

// TokenCmd is hark token.
type TokenCmd struct {
	User  string        `required:"" help:"The user of the token." placeholder:"NAME"`
	Scope string        `help:"Scopes of the token: notify, enqueue, admin, or those that your rules name, separated by spaces." placeholder:"SCOPES"`
	TTL   time.Duration `name:"ttl" default:"24h" help:"How long it is valid."`
	Keys
}

// Run prints the token.
func (c *TokenCmd) Run(s Streams) error {
	scope, err := parseScope(c.Scope)
	if err != nil {
		return err
	}
	if err := jobs.CheckUser(c.User); err != nil {
		return badUsage("--%v", err)
	}
	if c.TTL < time.Second {
		return badUsage("--ttl must be at least 1s")
	}
	secret, err := c.secret(s)
	if err != nil {
		return err
	}
	issuer, err := c.newIssuer(secret)
	if err != nil {
		return err
	}
	token, _, err := issuer.Issue(c.User, scope, c.TTL)
	if err != nil {
		return err
	}
	fmt.Fprintln(s.Out, token)
	return nil
}

// secret returns the given secret or the data folder's, which it makes if it is missing.
func (c *TokenCmd) secret(s Streams) ([]byte, error) {
	if key, err := c.Keys.given(); err != nil || len(key) > 0 {
		return key, err
	}
	path, err := c.secretPath()
	if err != nil {
		return nil, err
	}
	if _, err := auth.LoadSecret(path); errors.Is(err, fs.ErrNotExist) {
		fmt.Fprintf(s.Err, "hark: no --jwt-secret-file is given, so a new secret was made in %s; servers with that data folder accept the token\n", path)
	}
	return auth.LoadOrCreateSecret(path)
}

// parseScope parses a list of scopes, separated by spaces or commas.
func parseScope(text string) ([]string, error) {
	scope := strings.FieldsFunc(text, func(r rune) bool { return r == ' ' || r == ',' })
	for _, one := range scope {
		if strings.ContainsFunc(one, func(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == '\\' }) {
			return nil, badUsage("--scope %q is not a scope (RFC 6749, section 3.3)", one)
		}
	}
	return scope, nil
}
