package jobs

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"
)

// Request is a job to be enqueued.
type Request struct {
	User string
	// EnqueuedBy is the user name of the service that enqueues for User. Over HTTP a service reads and cancels the jobs that have
	// its name here. The notifier sets it from the verified token. Defaults to none: the job is enqueued by User.
	EnqueuedBy string
	Kind       string
	Title      string          // what the user reads; the kind's title if empty
	Params     json.RawMessage // a JSON object, or nothing
	// Claims are the verified claims of the requester. Only those that the kind declares are stored with the job.
	Claims map[string]any
	// Metadata is stored with the job and not interpreted by hark. The handler, the worker's observer and middleware, and
	// everybody who may see the job can read it. It is for context beside the params, such as a tenant or a trace context. At
	// most 16 names of 1 to 64 characters of a-z, A-Z, 0-9, dot, _ and -, with values of at most 512 bytes of UTF-8.
	Metadata map[string]string
	// MaxAttempts is the limit of attempts. Defaults to the kind's.
	MaxAttempts int
	// IdempotencyKey, if set, makes a second request by this user with the same key return the first job.
	IdempotencyKey string
}

// Limits of a request.
const (
	MaxParamsBytes = 256 << 10
	MaxTitleChars  = 200
	MaxMaxAttempts = 100
	MaxKeyBytes    = 255

	maxMetadata           = 16
	maxMetadataValueBytes = 512
)

var metadataName = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,64}$`)

// Check returns an [*InvalidError] for the first invalid field.
func (r *Request) Check() error {
	if err := CheckUser(r.User); err != nil {
		return err
	}
	if err := CheckKind(r.Kind); err != nil {
		return err
	}
	if r.EnqueuedBy != "" && CheckUser(r.EnqueuedBy) != nil {
		return invalid("enqueued_by", "must be the name of a user")
	}
	switch {
	case utf8.RuneCountInString(r.Title) > MaxTitleChars || strings.ContainsAny(r.Title, "\r\n"):
		return invalid("title", "must be one line of at most %d characters", MaxTitleChars)
	case len(r.Params) > MaxParamsBytes:
		return invalid("params", "must be at most %d KiB of JSON", MaxParamsBytes>>10)
	case r.MaxAttempts < 0 || r.MaxAttempts > MaxMaxAttempts:
		return invalid("max_attempts", "must be between 1 and %d", MaxMaxAttempts)
	case len(r.IdempotencyKey) > MaxKeyBytes:
		return invalid("Idempotency-Key", "must be at most %d bytes", MaxKeyBytes)
	case len(r.Metadata) > maxMetadata:
		return invalid("metadata", "must have at most %d names", maxMetadata)
	}
	for name, value := range r.Metadata {
		if !metadataName.MatchString(name) {
			return invalid("metadata", "must have names of 1 to 64 characters of a-z, A-Z, 0-9, dot, _ and -")
		}
		if len(value) > maxMetadataValueBytes || !utf8.ValidString(value) {
			return invalid("metadata."+name, "must be at most %d bytes of UTF-8", maxMetadataValueBytes)
		}
	}
	return nil
}

// InvalidError is returned for a request that is never valid.
type InvalidError struct {
	Code   string // stable, for programs: invalid_request if there is no more specific one
	Field  string // the field that is wrong
	Reason string // what it must be, as it follows the field's name in a sentence
}

func (e *InvalidError) Error() string { return fmt.Sprintf("%s %s", e.Field, e.Reason) }

func invalid(field, format string, args ...any) *InvalidError {
	return &InvalidError{Code: "invalid_request", Field: field, Reason: fmt.Sprintf(format, args...)}
}

// Fingerprint returns a hash of what the caller sent. Titles and defaults that the kind adds are not part of it, since they
// change with the kind. Metadata is not part of it either, since a trace context differs in each call.
func (r *Request) Fingerprint() string {
	params, err := decodeParams(r.Params)
	if err != nil {
		params = nil // such params are never stored
	}
	sent, err := json.Marshal([]any{r.Kind, r.Title, r.MaxAttempts, params})
	if err != nil {
		panic(err) // decodeParams returns what can be encoded
	}
	sum := sha256.Sum256(sent)
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}
