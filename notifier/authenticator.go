package notifier

import (
	"fmt"
	"net/http"
	"time"

	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/notifier/auth"
)

// Authenticator identifies the caller of a request. [*auth.Verifier] is one: it accepts JWTs as bearer tokens or in
// hark's cookie. A program with a login of its own has another, for instance one that reads its session cookie.
type Authenticator interface {
	// Authenticate returns the identity of the caller. It must be safe for concurrent use. It may block until the
	// context of r ends. It must not read the body.
	//
	// User must be a name that [jobs.CheckUser] accepts. The rules of kinds check Scope and Claims; numbers in Claims
	// are [encoding/json.Number]. The streams of the caller end at ExpiresAt; zero means never. ID and IssuedAt
	// identify the session for [Options.Revocations], [sse.Hub.EndToken] and [sse.Hub.EndUser]. If the user was
	// revoked, an identity without IssuedAt, or with one before the revocation, is refused.
	//
	// FromCookie must be true if the browser sends the credential by itself: a cookie, a client certificate, HTTP
	// Basic. Then a call that changes something must come from a page of hark's own origin, or of [Options.Origins],
	// as Origin or Sec-Fetch-Site show. Without that check any page could make calls in the name of its reader.
	//
	// An [*auth.Error] refuses the request, with its code and sentence: [auth.CodeTokenMissing] if nobody is signed in.
	// Any other error is logged and answered with 500, or with 503 if it is [context.DeadlineExceeded].
	Authenticate(r *http.Request) (auth.Identity, error)
}

// checkForeign checks an identity from an Authenticator that is not hark's own.
func (n *Notifier) checkForeign(id *auth.Identity) error {
	if err := jobs.CheckUser(id.User); err != nil {
		return &auth.Error{Code: auth.CodeTokenInvalid, Detail: fmt.Sprintf("The login has an invalid user name: %v.", err)}
	}
	if !id.ExpiresAt.IsZero() && !time.Now().Before(id.ExpiresAt) {
		return &auth.Error{Code: auth.CodeTokenExpired, Detail: "The session has expired; sign in again."}
	}
	return n.revoked.Check(id)
}
