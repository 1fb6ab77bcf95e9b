package jobs

// ListOptions selects from the jobs of a user. The zero value selects all of them.
type ListOptions struct {
	// Everyone selects from the jobs of all users, whichever user is given.
	Everyone bool
	// States selects jobs in one of these states. Defaults to all states.
	States []State
	// Limit is the most jobs that a page has. Defaults to 50.
	Limit int
	// After is the cursor of a page, which begins with the next older job. Defaults to the newest job.
	After uint64
}

// Page is a part of a list of jobs, newest first.
type Page struct {
	Jobs []Job
	Next uint64 // the cursor of the next page; 0 if this is the last
}
