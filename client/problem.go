package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/hark-jobs/hark/jobs"
)

// Problem is the server's refusal of a call (RFC 9457). It is also an error of package jobs, see [Problem.Is].
type Problem struct {
	Type      string `json:"type"`
	Title     string `json:"title"`
	Status    int    `json:"status"`
	Code      string `json:"code"`   // stable, for programs; empty if the response is from a proxy
	Detail    string `json:"detail"` // one sentence for people
	Field     string `json:"field,omitempty"`
	RequestID string `json:"request_id,omitempty"`
	// RetryAfter is how long to wait before the next call; 0 if the response does not say.
	RetryAfter time.Duration `json:"-"`
}

func (p *Problem) Error() string { return p.Detail }

// known has the errors of package jobs by their codes.
var known = map[string]error{
	"job_not_found": jobs.ErrNotFound,
	"kind_unknown":  jobs.ErrKindUnknown,
	"key_reused":    jobs.ErrKeyReused,
	"job_ended":     jobs.ErrEnded,
	"job_not_ended": jobs.ErrNotEnded,
	"file_gone":     jobs.ErrFileGone,
}

// Is reports whether target is the error of package jobs that the code stands for, for errors.Is: [jobs.ErrNotFound],
// [jobs.ErrKindUnknown], [jobs.ErrKeyReused], [jobs.ErrEnded], [jobs.ErrNotEnded] or [jobs.ErrFileGone].
func (p *Problem) Is(target error) bool {
	err, ok := known[p.Code]
	return ok && err == target
}

// UnreachableError is the error of a call without a response, or with an incomplete one.
type UnreachableError struct {
	URL string // of the server
	Err error
}

func (e *UnreachableError) Error() string {
	reason := e.Err
	var outer *url.Error
	if errors.As(reason, &outer) { // its text has the URL of the call, too
		reason = outer.Err
	}
	return fmt.Sprintf("cannot reach %s: %v", e.URL, reason)
}

func (e *UnreachableError) Unwrap() error { return e.Err }

// Temporary reports whether the same call may succeed later: the server could not be reached, is overloaded, failed, or limits
// the rate of calls.
func Temporary(err error) bool {
	var unreachable *UnreachableError
	var problem *Problem
	switch {
	case errors.As(err, &unreachable):
		return true
	case errors.As(err, &problem):
		return problem.Status >= 500 && problem.Status != http.StatusNotImplemented || problem.Status == http.StatusTooManyRequests
	}
	return false
}

// readProblem returns the Problem of a response that is not a success, from hark or from a proxy.
func readProblem(res *http.Response) *Problem {
	var p Problem
	media, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type"))
	if media == "application/problem+json" {
		data, _ := io.ReadAll(io.LimitReader(res.Body, 64<<10))
		if json.Unmarshal(data, &p) != nil {
			p = Problem{}
		}
	}
	p.Status = res.StatusCode
	if p.Title == "" {
		p.Title = http.StatusText(p.Status)
	}
	if p.Detail == "" {
		p.Detail = fmt.Sprintf("%s %s got the status %s.", res.Request.Method, res.Request.URL.Redacted(), res.Status)
	}
	p.RetryAfter = retryAfter(res.Header.Get("Retry-After"))
	return &p
}

// retryAfter parses seconds or a date (RFC 9110, section 10.2.3).
func retryAfter(value string) time.Duration {
	if s, err := strconv.Atoi(value); err == nil {
		return time.Duration(min(max(s, 0), 86400)) * time.Second
	}
	if t, err := http.ParseTime(value); err == nil {
		return max(time.Until(t), 0)
	}
	return 0
}
