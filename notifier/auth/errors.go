package auth

import "net/http"

// The codes of an [Error].
const (
	CodeTokenMissing    = "token_missing"    // there is no token in the request
	CodeTokenInvalid    = "token_invalid"    // the token is malformed, not signed by us, or not meant for us
	CodeTokenExpired    = "token_expired"    // the token was good until its exp
	CodeTokenRevoked    = "token_revoked"    // the token was good until it, or its user, was revoked
	CodeKeysUnavailable = "keys_unavailable" // the JWKS could not be read so far: nobody's fault who asks
	CodeTicketInvalid   = "ticket_invalid"   // the ticket was used, is too old, or never was
	CodeLinkInvalid     = "link_invalid"     // the link to a file is too old, or never was
	CodeOriginMissing   = "origin_missing"   // a changing cookie call says not where it comes from
	CodeOriginForbidden = "origin_forbidden" // a changing cookie call comes from a foreign page
)

// Error is why a request is refused: a stable code for programs, and one sentence for people. It never
// contains the token or ticket.
type Error struct {
	Code   string
	Detail string

	cause error // for the log alone
}

func (e *Error) Error() string { return e.Detail }

// Unwrap returns what lies behind the error, for the log: it is not meant for the one who asks.
func (e *Error) Unwrap() error { return e.cause }

// Status returns the HTTP status that goes with the code.
func (e *Error) Status() int {
	switch e.Code {
	case CodeKeysUnavailable:
		return http.StatusServiceUnavailable
	case CodeOriginMissing, CodeOriginForbidden:
		return http.StatusForbidden
	}
	return http.StatusUnauthorized
}

func refuse(code, detail string) *Error { return &Error{Code: code, Detail: detail} }

func invalidToken(detail string) *Error { return refuse(CodeTokenInvalid, detail) }
