package cluster_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hark-jobs/hark/client"
	"github.com/hark-jobs/hark/jobs"
)

// verdict counts what must not be.
type verdict struct {
	forGood     int // notifications and ends that a stream never got
	untilNext   int // that it got only with the user's next one
	repeated    int // that it got more than once
	disorder    int // that came after a later one of the same sender
	unknown     int // that nobody has posted
	inboxWrong  int // inbox rows missing or doubled
	unended     int // accepted jobs that have not ended
	unannounced int // ended runs without a notification
	twice       int // runs that were announced more than once
	wrongly     int // ends that say something else than what happened
	neverRun    int // jobs that were run again by their users, and whose last run has not ended
	gaveUp      int // callers that gave up
	wrong       int // answers that are wrong whatever fails
	resets      int
}

func (v verdict) String() string {
	return fmt.Sprintf(`  notifications missing on a stream for good          %d
  missing until the user's next one                   %d
  notifications on a stream twice                     %d
  out of order                                        %d
  unknown                                             %d
  inbox rows missing or doubled                       %d
  jobs not ended                                      %d
  jobs ended and not announced                        %d
  announced twice                                     %d
  announced wrongly                                   %d
  jobs run again by their users that never run        %d
  callers that gave up after %v                    %d
  wrong answers                                       %d
  reset events                                        %d`,
		v.forGood, v.untilNext, v.repeated, v.disorder, v.unknown, v.inboxWrong, v.unended, v.unannounced, v.twice, v.wrongly, v.neverRun,
		patience, v.gaveUp, v.wrong, v.resets)
}

// verdict counts all that must not be, and logs the first of each kind. The inboxes may take a while to be filled.
func (l *ledger) verdict(phases []*phase) (v verdict) {
	for _, p := range phases {
		v.untilNext += p.untilNext
		v.forGood += p.forGood
	}
	v.gaveUp, v.wrong = l.gaveUp, len(l.errors)
	if v.wrong > 0 {
		l.t.Logf("wrong answers: %q", l.errors[:min(v.wrong, 10)])
	}
	shown := 0
	for _, r := range l.readers {
		r.mu.Lock()
		v.repeated += len(r.repeated)
		v.disorder += len(r.disorder)
		v.unknown += len(r.strange)
		v.resets += r.resets
		if len(r.repeated)+len(r.disorder)+len(r.strange) > 0 {
			if shown++; shown <= 10 {
				l.t.Logf("%s: repeated %q, out of order %q, unknown %q", r.user, r.repeated, r.disorder, r.strange)
			}
		}
		r.mu.Unlock()
	}
	l.checkJobs(&v)
	for _, url := range l.parts.urls {
		v.inboxWrong += l.checkInboxes(url)
	}
	return v
}

// checkJobs compares each job with its announced ends.
func (l *ledger) checkJobs(v *verdict) {
	for _, j := range l.jobs {
		runs := len(j.accepted())
		if runs == 0 {
			continue // its caller gave up
		}
		now, err := l.ended(j)
		if err != nil || !now.State.Terminal() {
			v.unended++
			if runs > 1 {
				v.neverRun++
			}
			l.t.Logf("job %s of run %d: %v %+v", j.id, runs, err, now)
			continue
		}
		ends := l.readers[j.user].endsOf(j.id)
		v.unannounced += max(runs-len(ends), 0)
		v.twice += max(len(ends)-runs, 0)
		if len(ends) != runs {
			l.t.Logf("job %s of %d runs has the ends %v; it is %+v", j.id, runs, ends, now)
		}
		want := jobs.Succeeded
		if j.fails {
			want = jobs.Failed
		}
		for _, e := range ends {
			if e.kind != "job."+string(want) || now.State != want {
				v.wrongly++
				l.t.Logf("job %s: the end %s, and it is %+v", j.id, e.kind, now)
			}
		}
	}
}

// ended returns a job once it has ended, or what is known of it after two minutes: a NATS server that was cut off may answer
// reads, and lags for a while.
func (l *ledger) ended(j *job) (now jobs.Job, err error) {
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(100 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		now, err = l.clients[j.user].Job(ctx, j.id)
		cancel()
		if err == nil && now.State.Terminal() || time.Now().After(end) {
			return now, err
		}
	}
}

// checkInboxes compares all inboxes, as one notifier shows them, with the ledger.
func (l *ledger) checkInboxes(url string) (wrong int) {
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Second) {
		var mu sync.Mutex
		var users sync.WaitGroup
		var texts []string
		wrong = 0
		next := make(chan int)
		for range 4 {
			users.Go(func() {
				for u := range next {
					n, text := l.checkInbox(url, u)
					mu.Lock()
					wrong += n
					if n > 0 {
						texts = append(texts, text)
					}
					mu.Unlock()
				}
			})
		}
		for u := range l.readers {
			next <- u
		}
		close(next)
		users.Wait()
		if wrong == 0 || time.Now().After(end) {
			if wrong > 0 {
				l.t.Logf("inboxes at %s: %q", url, texts[:min(len(texts), 5)])
			}
			return wrong
		}
	}
}

// checkInbox counts the rows that an inbox lacks, or has besides those of the ledger.
func (l *ledger) checkInbox(url string, u int) (wrong int, text string) {
	user := l.readers[u].user
	c, err := client.New(client.Options{URL: url, Token: l.readers[u].token})
	if err != nil {
		return 1, err.Error()
	}
	rows := make(map[string]int)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for n, err := range c.Notifications(ctx, client.NotificationsQuery{Limit: 100}) {
		if err != nil {
			return 1, err.Error()
		}
		if n.JobID != "" {
			rows["job "+n.JobID]++
		} else if _, _, ok := l.readers[u].parse(n.Title); ok || !strings.HasPrefix(n.Title, "for churn") {
			rows[n.Title]++ // and not what another ledger has posted for all
		}
	}
	for _, of := range []string{user, l.name} {
		for n := range l.posted[of] {
			rows[titleOf(of, n+1)]--
		}
	}
	for _, j := range l.jobs {
		if j.user == u && j.id != "" {
			rows["job "+j.id] -= len(j.accepted())
		}
	}
	var found []string
	for what, n := range rows {
		if n != 0 {
			wrong += max(n, -n)
			found = append(found, fmt.Sprintf("%s: %+d", what, n))
		}
	}
	slices.Sort(found)
	return wrong, strings.Join(found[:min(len(found), 5)], ", ")
}
