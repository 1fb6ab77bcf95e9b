package jobs

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// State says where a job stands.
type State string

// The states of a job. Succeeded, Failed and Cancelled are terminal.
const (
	Queued    State = "queued"
	Running   State = "running"
	Retrying  State = "retrying"
	Succeeded State = "succeeded"
	Failed    State = "failed"
	Cancelled State = "cancelled"
)

// States lists every state, in the order of a job's life.
var States = []State{Queued, Running, Retrying, Succeeded, Failed, Cancelled}

// Terminal reports whether a job in this state has ended.
func (s State) Terminal() bool { return s == Succeeded || s == Failed || s == Cancelled }

// Valid reports whether s is one of [States].
func (s State) Valid() bool {
	for _, known := range States {
		if s == known {
			return true
		}
	}
	return false
}

// Job is a job as it stands: what was asked for and how far it has come. It is what the HTTP API
// answers, what the stream event "job" carries, and, but for Revision, what a state message stores.
type Job struct {
	ID          string   `json:"id"`
	Kind        string   `json:"kind"`
	Title       string   `json:"title"`
	User        string   `json:"user"`
	State       State    `json:"state"`
	Progress    Progress `json:"progress"`
	Attempt     int      `json:"attempt"`
	MaxAttempts int      `json:"max_attempts"`

	CreatedAt  time.Time `json:"created_at"`
	StartedAt  time.Time `json:"started_at,omitzero"`
	FinishedAt time.Time `json:"finished_at,omitzero"`
	// RetryAt is when a retrying job runs again at the earliest.
	RetryAt time.Time `json:"retry_at,omitzero"`

	// CancelRequested says that a cancel waits for the running handler to stop.
	CancelRequested bool `json:"cancel_requested,omitempty"`

	Result json.RawMessage `json:"result,omitempty"`
	File   *File           `json:"file,omitempty"`
	Error  *Error          `json:"error,omitempty"`

	// Run counts how often the job was asked for: 1, and one more with each retry by hand.
	Run int `json:"run"`
	// Lost counts the leases of this run that ended without a word, by a crash of the worker.
	Lost int `json:"lost,omitempty"`
	// Worker names the holder of the lease while the job runs.
	Worker string `json:"worker,omitempty"`

	// Revision is the stream sequence of the newest message of this job. It only ever grows, so of two
	// versions of one job the greater is the newer.
	Revision uint64 `json:"revision,omitempty"`
}

// Progress is how far a job's handler says it has come. Total is 0 while it is not known.
type Progress struct {
	Done    int64  `json:"done"`
	Total   int64  `json:"total"`
	Message string `json:"message,omitempty"`
}

// Error is why a job, or its last attempt, did not succeed: one sentence for its user, and a stable code.
type Error struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// File is what a job leaves behind to download.
type File struct {
	Name        string    `json:"name"`
	Size        int64     `json:"size"`
	ContentType string    `json:"content_type"`
	URL         string    `json:"url,omitempty"`
	ExpiresAt   time.Time `json:"expires_at,omitzero"`
}

// Result is what a handler that succeeded returns.
type Result struct {
	// Value becomes the job's result; anything encoding/json can marshal.
	Value any
	// Summary is one sentence for the user, the body of the notification.
	Summary string
}

// Request asks for a job.
type Request struct {
	User   string
	Kind   string
	Title  string          // what the user reads; the kind's title if empty
	Params json.RawMessage // a JSON object, or nothing
	// Claims are the verified claims of the requester. Those that the kind declares are stored with the job, for its
	// handler; no others are.
	Claims map[string]any
	// MaxAttempts limits how often the handler is tried; 0 means the kind's own limit.
	MaxAttempts int
	// IdempotencyKey, if set, makes a second request by this user with the same key answer with the
	// first one's job.
	IdempotencyKey string
}

// Order is the job message: a job as it was asked for.
type Order struct {
	ID          string          `json:"id"`
	Kind        string          `json:"kind"`
	Title       string          `json:"title"`
	User        string          `json:"user"`
	Params      json.RawMessage `json:"params,omitempty"`
	Claims      map[string]any  `json:"claims,omitempty"` // those that the kind declares
	MaxAttempts int             `json:"max_attempts"`
	CreatedAt   time.Time       `json:"created_at"`
	Run         int             `json:"run"`
}

// Job returns the queued job that o asks for.
func (o *Order) Job() Job {
	return Job{
		ID: o.ID, Kind: o.Kind, Title: o.Title, User: o.User, State: Queued,
		MaxAttempts: o.MaxAttempts, CreatedAt: o.CreatedAt, Run: o.Run,
	}
}

// Limits of a request.
const (
	MaxParamsBytes = 256 << 10
	MaxTitleChars  = 200
	MaxMaxAttempts = 100
	MaxKeyBytes    = 255
)

// Check returns the first reason why r cannot be enqueued, as an [*InvalidError].
func (r *Request) Check() error {
	if err := CheckUser(r.User); err != nil {
		return err
	}
	if err := CheckKind(r.Kind); err != nil {
		return err
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
	}
	return nil
}

// InvalidError is a request that can never be accepted as it stands.
type InvalidError struct {
	Code   string // stable, for programs: invalid_request if nothing finer is known
	Field  string // the field that is wrong
	Reason string // what it must be, to follow the field's name in a sentence
}

func (e *InvalidError) Error() string { return fmt.Sprintf("%s %s", e.Field, e.Reason) }

func invalid(field, format string, args ...any) *InvalidError {
	return &InvalidError{Code: "invalid_request", Field: field, Reason: fmt.Sprintf(format, args...)}
}

// Public returns the job as its user may see it, with the link of its file.
func (j Job) Public() Job {
	if j.File != nil {
		file := *j.File
		file.URL = "/v1/jobs/" + j.ID + "/file"
		j.File = &file
	}
	j.Worker = ""
	return j
}
