package auth

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/hark-jobs/hark/jobs"
)

// TicketTTL is how long a ticket is valid.
const TicketTTL = 30 * time.Second

// ticketBucket holds the tickets not yet used, by id.
const ticketBucket = "hark_tickets"

// ticketLength is what rand.Text returns: 26 characters of base32, 130 bits.
const ticketLength = 26

// Tickets hands out tickets that stand for an identity once. All processes on one JetStream share them:
// whichever gets the request with the ticket can redeem it, and of several at once exactly one does. It
// is safe for concurrent use.
type Tickets struct {
	kv jetstream.KeyValue
}

// OpenTickets returns the Tickets kept on js. It creates their bucket with so many replicas if it is missing, and never
// changes one that exists. It blocks for one or two round trips.
func OpenTickets(ctx context.Context, js jetstream.JetStream, replicas int) (*Tickets, error) {
	kv, err := jobs.BindBucket(ctx, js, jetstream.KeyValueConfig{
		Bucket: ticketBucket, Description: "hark: one-use tickets for event streams",
		TTL: TicketTTL, History: 1, Storage: jetstream.FileStorage, Replicas: max(replicas, 1),
	})
	if err != nil {
		return nil, fmt.Errorf("auth: open the tickets: %w", err)
	}
	return &Tickets{kv}, nil
}

// ticketValue is what is stored of an identity. Its claims are not: no stream needs them.
type ticketValue struct {
	User      string    `json:"user"`
	Scope     []string  `json:"scope,omitempty"`
	ExpiresAt time.Time `json:"expires_at"`
	IssuedAt  time.Time `json:"issued_at,omitzero"`
	ID        string    `json:"jti,omitempty"`
}

// Issue returns a ticket for id and when it ends to be valid. It fails only with JetStream.
func (t *Tickets) Issue(ctx context.Context, id Identity) (ticket string, expiresAt time.Time, err error) {
	value, err := json.Marshal(ticketValue{id.User, id.Scope, id.ExpiresAt, id.IssuedAt, id.ID})
	if err != nil {
		return "", time.Time{}, fmt.Errorf("auth: issue a ticket: %w", err)
	}
	ticket, expiresAt = rand.Text(), time.Now().Add(TicketTTL).UTC()
	if _, err := t.kv.Create(ctx, ticket, value); err != nil {
		return "", time.Time{}, fmt.Errorf("auth: issue a ticket: %w", err)
	}
	return ticket, expiresAt, nil
}

// Redeem returns who the ticket stands for, without claims, and uses it up. Whether the token was revoked since is for the
// caller to ask. A ticket that is used, expired or was never
// issued is an [*Error]; any other error is JetStream's.
func (t *Tickets) Redeem(ctx context.Context, ticket string) (Identity, error) {
	invalid := refuse(CodeTicketInvalid, "The ticket is not valid: each works once, within 30 seconds.")
	if !isTicket(ticket) {
		return Identity{}, invalid
	}
	entry, err := t.kv.Get(ctx, ticket)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return Identity{}, invalid
	}
	if err != nil {
		return Identity{}, fmt.Errorf("auth: redeem a ticket: %w", err)
	}
	// The read may come from any replica and be late. The delete is decided by the leader alone, and
	// succeeds only while the last revision is the one just read: this is what makes it one use.
	err = t.kv.Delete(ctx, ticket, jetstream.LastRevision(entry.Revision()))
	if wrongRevision(err) {
		return Identity{}, invalid
	}
	if err != nil {
		return Identity{}, fmt.Errorf("auth: redeem a ticket: %w", err)
	}
	// This is what Issue has written, and by exactly those names.
	if _, err := exactObject(entry.Value()); err != nil {
		return Identity{}, fmt.Errorf("auth: redeem a ticket: %w", err)
	}
	var value ticketValue
	if err := json.Unmarshal(entry.Value(), &value); err != nil {
		return Identity{}, fmt.Errorf("auth: redeem a ticket: %w", err)
	}
	id := Identity{User: value.User, Scope: value.Scope, ExpiresAt: value.ExpiresAt, IssuedAt: value.IssuedAt, ID: value.ID}
	if !time.Now().Before(id.ExpiresAt) {
		return Identity{}, refuse(CodeTokenExpired, "The token that the ticket was issued for has expired.")
	}
	return id, nil
}

// isTicket keeps what was never a ticket, and above all wildcards, out of the subjects of NATS.
func isTicket(s string) bool {
	return len(s) == ticketLength && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") == ""
}

func wrongRevision(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && (api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence ||
		api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant) // the latter from replicated streams
}
