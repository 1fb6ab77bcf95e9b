package jobs

import (
	"encoding/json"
	"time"
)

// State is the state of a job.
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

// States lists all states, in the order of a job's life.
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

// Job is a job with its state. It is the response of the HTTP API, the data of the stream event "job", and, without
// Revision, the body of a state message.
type Job struct {
	ID    string `json:"id"`
	Kind  string `json:"kind"`
	Title string `json:"title"`
	User  string `json:"user"`
	// EnqueuedBy is the service that enqueued the job for User, see [Request.EnqueuedBy].
	EnqueuedBy  string   `json:"enqueued_by,omitempty"`
	State       State    `json:"state"`
	Progress    Progress `json:"progress"`
	Attempt     int      `json:"attempt"`
	MaxAttempts int      `json:"max_attempts"`

	CreatedAt  time.Time `json:"created_at"`
	StartedAt  time.Time `json:"started_at,omitzero"`
	FinishedAt time.Time `json:"finished_at,omitzero"`
	// RetryAt is the earliest time of the next attempt of a retrying job.
	RetryAt time.Time `json:"retry_at,omitzero"`
	// RetryDelay is the delay from which RetryAt was computed, in nanoseconds. Users do not see it.
	RetryDelay time.Duration `json:"retry_delay,omitempty"`

	// CancelRequested says that a cancel was requested and the handler has not stopped yet.
	CancelRequested bool `json:"cancel_requested,omitempty"`

	// Metadata was set by the program that enqueued the job, see [Request.Metadata].
	Metadata map[string]string `json:"metadata,omitempty"`

	Result json.RawMessage `json:"result,omitempty"`
	File   *File           `json:"file,omitempty"`
	Error  *Error          `json:"error,omitempty"`

	// Run is 1, and one more after each manual retry.
	Run int `json:"run"`
	// Lost counts the leases of this run that expired, for instance by a crash of the worker.
	Lost int `json:"lost,omitempty"`
	// Worker is the name of the holder of the lease while the job runs.
	Worker string `json:"worker,omitempty"`

	// Revision is the stream sequence of the latest message of this job. It only grows: of two versions of a job the one
	// with the greater revision is newer.
	Revision uint64 `json:"revision,omitempty"`
}

// Progress is the progress that a handler reports. Total is 0 while it is not known.
type Progress struct {
	Done    int64  `json:"done"`
	Total   int64  `json:"total"`
	Message string `json:"message,omitempty"`
}

// Error says why a job, or its last attempt, did not succeed: one sentence for the user, and a stable code.
type Error struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// File describes the file of a job. The notifier makes its URL.
type File struct {
	Name        string    `json:"name"`
	Size        int64     `json:"size"`
	ContentType string    `json:"content_type"`
	ExpiresAt   time.Time `json:"expires_at,omitzero"`
}

// Result is what a handler that succeeded returns.
type Result struct {
	// Value is the result of the job: any value that encoding/json can marshal, at most [MaxResultBytes] as JSON. A larger
	// value fails the job; it belongs into a file.
	Value any
	// Summary is one sentence for the user, the body of the notification. A text of more than [MaxTextChars] is cut.
	Summary string
}

// Public returns the job as its user may see it.
func (j Job) Public() Job {
	j.Worker, j.RetryDelay = "", 0
	return j
}
