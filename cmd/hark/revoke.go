package main

import (
	"context"
	"fmt"
	"time"

	"github.com/hark-jobs/hark/client"
	"github.com/hark-jobs/hark/notifier/auth"
)

// RevokeCmd is hark revoke.
type RevokeCmd struct {
	User string `xor:"what" required:"" env:"-" help:"The user whose tokens are revoked. Tokens issued later are valid." placeholder:"NAME"`
	JTI  string `name:"jti" xor:"what" required:"" env:"-" help:"The jti of the token to revoke." placeholder:"ID"`
	Lift bool   `env:"-" help:"Lift the revocation: the tokens are valid again until they expire."`
	Connection
}

// Run revokes, and prints what is revoked. Open streams of revoked tokens end.
func (c *RevokeCmd) Run(ctx context.Context, s Streams) error {
	server, err := c.connect("", auth.ScopeAdmin)
	if err != nil {
		return err
	}
	what := client.Revocation{User: c.User, JTI: c.JTI}
	if c.Lift {
		if err := server.LiftRevocation(ctx, what); err != nil {
			return err
		}
		fmt.Fprintln(s.Out, "No longer revoked:", printable(c.User+c.JTI))
		return nil
	}
	done, err := server.Revoke(ctx, what)
	if err != nil {
		return err
	}
	if c.User != "" {
		fmt.Fprintf(s.Out, "Revoked: the tokens of %s that were issued up to %s\n", printable(c.User), done.RevokedAt.Format(time.RFC3339))
	} else {
		fmt.Fprintf(s.Out, "Revoked: the token with the jti %s\n", printable(c.JTI))
	}
	return nil
}
