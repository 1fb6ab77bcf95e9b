package joblog

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/hark-jobs/hark/jobs"
)

// Address holds what the subject of a message says about it: the user, the class, and for a job its kind and id. Any
// program with access to the log can put other values into the body, so the body's values are not used.
type Address struct {
	User  string // or [jobs.Everyone]
	Class Class
	Kind  string // of a job request
	ID    string // of a job request, or of a state
}

var errSubject = errors.New("joblog: the subject is malformed")

// ParseAddress parses a stored or live subject. It returns an error for a subject that hark never writes to.
func ParseAddress(subject string) (a Address, err error) {
	token, class, ok := ParseSubject(subject)
	if !ok {
		return a, errSubject
	}
	a.Class = class
	if a.User, err = UnescapeUser(token); err != nil {
		return a, err
	}
	broadcast := a.User == jobs.Everyone && (class == ClassNotification || class == ClassInbox)
	if err := jobs.CheckUser(a.User); err != nil && !broadcast {
		return a, fmt.Errorf("joblog: %w", err)
	}
	rest := strings.Split(subject, ".")[userToken+2:]
	switch {
	case class == ClassJob && len(rest) == 2:
		a.Kind, a.ID = rest[0], rest[1]
		if err := jobs.CheckKind(a.Kind); err != nil {
			return a, fmt.Errorf("joblog: %w", err)
		}
	case class == ClassState && len(rest) == 1:
		a.ID = rest[0]
	case (class == ClassNotification || class == ClassInbox) && len(rest) == 0:
		return a, nil
	default:
		return a, errSubject
	}
	if !jobs.ValidID(a.ID) {
		return a, errSubject
	}
	return a, nil
}

// DecodeSpec decodes a job request from the body of a message on a stored or live subject. User, kind and id are the
// subject's. A body with other values is an error, since either of the two could be meant.
func DecodeSpec(subject string, body []byte) (*Spec, error) {
	a, err := ParseAddress(subject)
	if err == nil && a.Class != ClassJob {
		err = errSubject
	}
	if err != nil {
		return nil, err
	}
	o := new(Spec)
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber() // a claim may be a number that a float cannot hold
	if err := dec.Decode(o); err != nil {
		return nil, fmt.Errorf("joblog: job request: %w", err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errors.New("joblog: job request: something follows its JSON")
	}
	if err := a.check(o.User, o.ID); err != nil {
		return nil, err
	}
	switch {
	case o.Kind != a.Kind:
		return nil, fmt.Errorf("joblog: the subject names the kind %s, and the body %.60q", a.Kind, o.Kind)
	case o.Run < 1:
		return nil, errors.New("joblog: job request: the run is missing")
	}
	return o, nil
}

// DecodeState decodes a job's state, with the same rules as [DecodeSpec]. It does not set the revision.
func DecodeState(subject string, body []byte) (job jobs.Job, err error) {
	a, err := ParseAddress(subject)
	if err == nil && a.Class != ClassState {
		err = errSubject
	}
	if err != nil {
		return jobs.Job{}, err
	}
	if err := json.Unmarshal(body, &job); err != nil {
		return jobs.Job{}, fmt.Errorf("joblog: state: %w", err)
	}
	if err := a.check(job.User, job.ID); err != nil {
		return jobs.Job{}, err
	}
	if err := jobs.CheckKind(job.Kind); err != nil {
		return jobs.Job{}, fmt.Errorf("joblog: state: %w", err)
	}
	switch {
	case !job.State.Valid():
		return jobs.Job{}, fmt.Errorf("joblog: %.60q is not a state", job.State)
	case job.Run < 1:
		return jobs.Job{}, errors.New("joblog: state: the run is missing")
	}
	job.Revision = 0
	return job, nil
}

// check compares what a body says with the subject.
func (a *Address) check(user, id string) error {
	switch {
	case user != a.User:
		return fmt.Errorf("joblog: the subject names the user %.60q, and the body %.60q", a.User, user)
	case id != a.ID:
		return fmt.Errorf("joblog: the subject names the job %s, and the body %.60q", a.ID, id)
	}
	return nil
}

// DecodeNotification decodes a stored notification. It returns an error if the message is not one: not a JSON object with fields of
// the right types, or with neither a type nor a title.
func DecodeNotification(body []byte) (n jobs.Notification, err error) {
	if err := json.Unmarshal(body, &n); err != nil {
		return jobs.Notification{}, fmt.Errorf("joblog: notification: %w", err)
	}
	if n.Type == "" && n.Title == "" {
		return jobs.Notification{}, errors.New("joblog: notification: neither type nor title")
	}
	return n, nil
}
