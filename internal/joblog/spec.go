package joblog

import (
	"encoding/json"
	"time"

	"github.com/hark-jobs/hark/jobs"
)

// Spec is the stored message that requests a job.
type Spec struct {
	ID          string            `json:"id"`
	Kind        string            `json:"kind"`
	Title       string            `json:"title"`
	User        string            `json:"user"`
	EnqueuedBy  string            `json:"enqueued_by,omitempty"`
	Params      json.RawMessage   `json:"params,omitempty"`
	Claims      map[string]any    `json:"claims,omitempty"` // the claims that the kind declares
	Metadata    map[string]string `json:"metadata,omitempty"`
	MaxAttempts int               `json:"max_attempts"`
	CreatedAt   time.Time         `json:"created_at"`
	Run         int               `json:"run"`
	// Request is the hash of the request, if it had an idempotency key.
	Request string `json:"request,omitempty"`
}

// Job returns the queued job of the spec.
func (s *Spec) Job() jobs.Job {
	return jobs.Job{
		ID: s.ID, Kind: s.Kind, Title: s.Title, User: s.User, EnqueuedBy: s.EnqueuedBy, State: jobs.Queued, Metadata: s.Metadata,
		MaxAttempts: s.MaxAttempts, CreatedAt: s.CreatedAt, Run: s.Run,
	}
}
