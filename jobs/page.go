package jobs

import "errors"

// ListOptions selects from the jobs of a user. The zero value selects all of them.
type ListOptions struct {
	// Everyone selects from the jobs of all users, whichever user is given.
	Everyone bool
	// States selects jobs in one of these states. Defaults to all states.
	States []State
	// Limit is the most jobs that a page has. Defaults to 50.
	Limit int
	// After is the cursor of a page, which begins with the next older job: the Next of an earlier page of the same list.
	// Defaults to the newest job.
	After string
}

// ErrCursor is returned for a cursor that is not the Next of an earlier page of the same list.
var ErrCursor = errors.New("jobs: the cursor is not that of an earlier page of this list")

// Page is a part of a list of jobs, newest first.
type Page struct {
	Jobs []Job
	Next string // the cursor of the next page; empty if this is the last
}
