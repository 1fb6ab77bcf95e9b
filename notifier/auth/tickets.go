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

	"github.com/hark-jobs/hark/internal/exact"
	"github.com/hark-jobs/hark/internal/joblog"
	"github.com/hark-jobs/hark/jobs"
)

// TicketTTL is how long a ticket is valid.
const TicketTTL = joblog.TicketTTL

// ticketLength is the length of a ticket, which rand.Text returns: 26 characters of base32, 130 bits.
const ticketLength = 26

// Tickets issues one-use tickets for an identity. All processes on one JetStream share them: any process can redeem a ticket,
// and exactly one succeeds. It is safe for concurrent use.
type Tickets struct {
	kv *joblog.Bucket
}

// OpenTickets returns the Tickets that are stored beside the log of the store. It creates their bucket if it is missing, and
// never changes an existing one. It blocks for a few round trips.
func OpenTickets(ctx context.Context, store *joblog.Store) (*Tickets, error) {
	kv, err := store.BindBucket(ctx, joblog.TicketsConfig(store.Namespace()), "tickets for event streams of the last 30 s")
	if err != nil {
		return nil, fmt.Errorf("auth: open the tickets: %w", err)
	}
	return &Tickets{kv}, nil
}

// ticketValue is the stored part of an identity. Streams do not need the claims.
type ticketValue struct {
	User      string    `json:"user"`
	Scope     []string  `json:"scope,omitempty"`
	ExpiresAt time.Time `json:"expires_at,omitzero"`
	IssuedAt  time.Time `json:"issued_at,omitzero"`
	ID        string    `json:"jti,omitempty"`
	Topics    []string  `json:"topics,omitempty"`
}

// Issue returns a ticket for id, and when the ticket expires. It blocks for a round trip. Errors are JetStream's.
func (t *Tickets) Issue(ctx context.Context, id Identity) (ticket string, expiresAt time.Time, err error) {
	value, err := json.Marshal(ticketValue{id.User, id.Scope, id.ExpiresAt, id.IssuedAt, id.ID, id.Topics})
	if err != nil {
		return "", time.Time{}, fmt.Errorf("auth: issue a ticket: %w", err)
	}
	ticket, expiresAt = rand.Text(), time.Now().Add(TicketTTL).UTC()
	if _, err := t.kv.Create(ctx, ticket, value); err != nil {
		return "", time.Time{}, fmt.Errorf("auth: issue a ticket: %w", err)
	}
	return ticket, expiresAt, nil
}

// Redeem returns the identity of a ticket, without claims, and deletes the ticket. It blocks for two round trips. It does not
// check revocations. For a ticket that was used, has expired or was never issued the error is an [*Error]; other errors are
// JetStream's.
func (t *Tickets) Redeem(ctx context.Context, ticket string) (Identity, error) {
	invalid := newError(CodeTicketInvalid, "The ticket is not valid; a ticket works once, within 30 seconds.")
	if !isTicket(ticket) {
		return Identity{}, invalid
	}
	entry, err := t.take(ctx, ticket)
	if errors.Is(err, jetstream.ErrKeyNotFound) || wrongRevision(err) {
		return Identity{}, invalid
	}
	if err != nil {
		return Identity{}, fmt.Errorf("auth: redeem a ticket: %w", err)
	}
	// Issue writes exactly these names. An entry with others is not a ticket.
	var value ticketValue
	if exact.DecodeKnown(entry.Value(), &value) != nil || jobs.CheckUser(value.User) != nil {
		return Identity{}, invalid
	}
	id := Identity{User: value.User, Scope: value.Scope, ExpiresAt: value.ExpiresAt, IssuedAt: value.IssuedAt, ID: value.ID, Topics: value.Topics}
	if !id.ExpiresAt.IsZero() && !time.Now().Before(id.ExpiresAt) {
		return Identity{}, newError(CodeTokenExpired, "The token that the ticket was issued for has expired.")
	}
	return id, nil
}

// take returns the entry of a ticket, and deletes it.
func (t *Tickets) take(ctx context.Context, ticket string) (jetstream.KeyValueEntry, error) {
	for try := 0; ; try++ {
		entry, err := t.kv.Get(ctx, ticket)
		if err != nil {
			return nil, err
		}
		// The delete is a compare-and-swap on the revision, so that only one of several callers succeeds. A cluster also
		// refuses it while the last write, of the ticket or of another delete, is being applied.
		err = t.kv.Delete(ctx, ticket, jetstream.LastRevision(entry.Revision()))
		if !joblog.IsTransient(err) || try == takeRetries {
			return entry, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(takePause):
		}
	}
}

// Retries of the delete of a ticket.
const (
	takeRetries = 20
	takePause   = 20 * time.Millisecond
)

// isTicket reports whether s has the form of a ticket. Other texts, such as wildcards, must not get into NATS subjects.
func isTicket(s string) bool {
	return len(s) == ticketLength && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") == ""
}

// wrongRevision reports whether a compare-and-swap has failed.
func wrongRevision(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence
}
