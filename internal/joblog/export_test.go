package joblog

// WentBack is for tests.
var WentBack = wentBack

// Limit changes how much is remembered, for tests.
func (b *Backlogs) Limit(users, jobs int) { b.most = limits{users, jobs} }

// Remembered returns how much is, for tests.
func (b *Backlogs) Remembered() (users, jobs int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for e := b.recent.Front(); e != nil; e = e.Next() {
		jobs += len(e.Value.(*backlog).waiting)
	}
	if len(b.users) != b.recent.Len() || jobs != b.jobs {
		panic("joblog: the account of what is remembered is wrong")
	}
	return len(b.users), jobs
}
