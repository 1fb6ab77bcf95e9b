package client

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// Revocation has either a user or the jti of a token.
type Revocation struct {
	User      string    `json:"user,omitempty"`
	JTI       string    `json:"jti,omitempty"`
	RevokedAt time.Time `json:"revoked_at,omitzero"` // set by the server
}

// Revoke revokes all tokens that a user has, or the one with a jti. It needs the scope admin.
func (c *Client) Revoke(ctx context.Context, r Revocation) (done Revocation, err error) {
	r.RevokedAt = time.Time{}
	err = c.call(ctx, call{method: http.MethodPost, path: "/v1/revocations", body: r}, &done)
	return done, err
}

// LiftRevocation undoes a revocation. It needs the scope admin.
func (c *Client) LiftRevocation(ctx context.Context, r Revocation) error {
	query := url.Values{}
	if r.User != "" {
		query.Set("user", r.User)
	}
	if r.JTI != "" {
		query.Set("jti", r.JTI)
	}
	return c.call(ctx, call{method: http.MethodDelete, path: "/v1/revocations", query: query}, nil)
}
