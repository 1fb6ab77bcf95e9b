package auth

import "net/http"

// The codes of an [Error].
const (
	CodeTokenMissing    = "token_missing"    // the request has no token
	CodeTokenInvalid    = "token_invalid"    // the token is malformed, has a wrong signature, or is for another issuer or audience
	CodeTokenExpired    = "token_expired"    // the token was valid until its exp
	CodeTokenRevoked    = "token_revoked"    // the token, or its user, was revoked
	CodeKeysUnavailable = "keys_unavailable" // no keys are available yet, since the JWKS cannot be read
	CodeTicketInvalid   = "ticket_invalid"   // the ticket was used, has expired, or was never issued
	CodeLinkInvalid     = "link_invalid"     // the link to a file has expired, or was never issued
	CodeOriginMissing   = "origin_missing"   // a call with the cookie that changes something has no Origin
	CodeOriginForbidden = "origin_forbidden" // a call with the cookie that changes something is from another site
)

// Error is the reason why a request is refused: a stable code for programs, and one sentence for people. It never contains
// the token or ticket.
type Error struct {
	Code   string
	Detail string

	cause error // for the log alone
}

func (e *Error) Error() string { return e.Detail }

// Unwrap returns the cause, for the log. The caller of the API must not see it.
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

func newError(code, detail string) *Error { return &Error{Code: code, Detail: detail} }

func invalidToken(detail string) *Error { return newError(CodeTokenInvalid, detail) }
