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
)

// Problem is the server's refusal of a call (RFC 9457).
type Problem struct {
	Type      string `json:"type"`
	Title     string `json:"title"`
	Status    int    `json:"status"`
	Code      string `json:"code"`   // stable, for programs; empty if the answer is not hark's but a proxy's
	Detail    string `json:"detail"` // one sentence for people
	Field     string `json:"field,omitempty"`
	RequestID string `json:"request_id,omitempty"`
	// RetryAfter is how long the server wants to be left alone, 0 if it did not say.
	RetryAfter time.Duration `json:"-"`
}

func (p *Problem) Error() string { return p.Detail }

// UnreachableError is a call that got no answer, or only half of one.
type UnreachableError struct {
	URL string // the server's
	Err error
}

func (e *UnreachableError) Error() string {
	reason := e.Err
	var outer *url.Error
	if errors.As(reason, &outer) { // it repeats the URL of the call
		reason = outer.Err
	}
	return fmt.Sprintf("cannot reach %s: %v", e.URL, reason)
}

func (e *UnreachableError) Unwrap() error { return e.Err }

// Temporary reports whether the same call may succeed later: the server was not there, is overloaded, or
// failed.
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

// readProblem makes a Problem of a response that is not a success, whoever it is from.
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
		p.Detail = fmt.Sprintf("%s %s was answered with %s.", res.Request.Method, res.Request.URL.Redacted(), res.Status)
	}
	p.RetryAfter = retryAfter(res.Header.Get("Retry-After"))
	return &p
}

// retryAfter reads seconds or a date (RFC 9110, section 10.2.3).
func retryAfter(value string) time.Duration {
	if s, err := strconv.Atoi(value); err == nil {
		return time.Duration(min(max(s, 0), 86400)) * time.Second
	}
	if t, err := http.ParseTime(value); err == nil {
		return max(time.Until(t), 0)
	}
	return 0
}
