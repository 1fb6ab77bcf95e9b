package joblog

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Requests about a stream, as they begin in JetStream's API.
const (
	infoOf   = "STREAM.INFO."
	createOf = "STREAM.CREATE."
	updateOf = "STREAM.UPDATE."
)

// NotPermittedError is returned when the permissions of the login in NATS do not permit a request about a stream. The server does
// not answer such a request, so it takes until the end of the context.
type NotPermittedError struct {
	Stream  string
	Problem string // continues a sentence that begins with the stream
}

func (e *NotPermittedError) Error() string { return "joblog: the stream " + e.Stream + " " + e.Problem }

// notPermitted returns a [*NotPermittedError] if err is the timeout of a request about a stream, and the server has refused the
// request, or the subscription to its response. Otherwise it returns err.
func notPermitted(js jetstream.JetStream, request, stream string, err error) error {
	if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, nats.ErrTimeout) {
		return err
	}
	refusal := js.Conn().LastError()
	if !errors.Is(refusal, nats.ErrPermissionViolation) {
		return err
	}
	switch text := refusal.Error(); {
	case strings.Contains(text, `Subscription to "`):
		return &NotPermittedError{stream, fmt.Sprintf("cannot be used: this login may not subscribe to its inbox; give the inbox prefix that its permissions have (%v)", refusal)}
	case !strings.Contains(text, `"`+APISubject(js, request)+stream+`"`):
		return err
	case request == createOf:
		return &NotPermittedError{stream, "does not exist, and this login may not create it; run hark setup first"}
	case request == updateOf:
		return &NotPermittedError{stream, "has lost messages, and this login may not begin a new epoch of it; run hark setup --new-epoch"}
	}
	return &NotPermittedError{stream, "may not be used by this login; check its permissions in NATS, and the namespace"}
}
