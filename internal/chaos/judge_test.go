package chaos_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hark-jobs/hark/client"
	"github.com/hark-jobs/hark/internal/harkproc"
	"github.com/hark-jobs/hark/jobs"
)

// settle waits, with nothing being killed any more, until all jobs have ended, all notifications are published, and all streams
// and inboxes have what there is. What has not come by then is counted as missing.
func (c *cluster) settle() {
	for _, p := range c.processes {
		p.Restart() // those that havoc left dead
	}
	for _, url := range c.urls {
		harkproc.Ready(c.t, url)
	}
	for end := time.Now().Add(90 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if c.countJobs(func(j jobs.Job) bool { return !j.State.Terminal() }) == 0 {
			break
		}
	}
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if v := c.verdict(); v == (verdict{}) {
			break
		}
	}
}

// countJobs counts the accepted jobs of which ok is true.
func (c *cluster) countJobs(ok func(jobs.Job) bool) (n int) {
	for id, user := range c.accepted {
		job, err := c.queue.Get(c.t.Context(), user, id)
		if err == nil && ok(job) {
			n++
		}
	}
	return n
}

// verdict counts what must not be.
type verdict struct {
	lost       int // accepted jobs that are not there
	stuck      int // jobs that have not ended
	untold     int // jobs whose end was not told, or told differently, or more than once
	missing    int // notifications that a stream never got
	repeated   int // that it got more than once
	unordered  int // that came before an earlier one
	unknown    int // that are not in the log
	inboxWrong int // inbox rows missing or doubled
}

func (v verdict) String() string {
	return fmt.Sprintf(`  jobs lost                                   %d
  jobs stuck                                  %d
  ends told differently, twice or never       %d
  notifications missing on a stream           %d
  notifications repeated on a stream          %d
  notifications out of order on a stream      %d
  notifications on a stream but not logged    %d
  inbox rows missing or doubled               %d`,
		v.lost, v.stuck, v.untold, v.missing, v.repeated, v.unordered, v.unknown, v.inboxWrong)
}

// logEntry is a notification as the log has it.
type logEntry struct {
	id   string
	note jobs.Notification
}

func (c *cluster) verdict() (v verdict) {
	logs := make(map[string][]logEntry)
	for u := range c.s.users {
		logs[userName(u)] = c.log(userName(u))
	}
	for id, user := range c.accepted {
		job, err := c.queue.Get(c.t.Context(), user, id)
		if err != nil {
			v.lost++
			continue
		}
		if !job.State.Terminal() {
			v.stuck++
			continue
		}
		told := 0
		for _, e := range logs[user] {
			if e.note.JobID != id {
				continue
			}
			told++
			if e.note.Type != "job."+string(job.State) {
				v.untold++
			}
		}
		if told != 1 {
			v.untold++
		}
	}
	for _, r := range c.readers {
		r.check(logs[r.user], &v)
	}
	for user, log := range logs {
		for _, one := range c.clients(user) {
			v.inboxWrong += c.checkInbox(one, log)
		}
	}
	return v
}

func (c *cluster) log(user string) (entries []logEntry) {
	for after := uint64(0); ; {
		page, more, err := c.queue.NotificationsPage(c.t.Context(), user, after, 256)
		if err != nil {
			c.t.Fatal(err)
		}
		for _, n := range page {
			e := logEntry{id: jobs.NotificationID{Epoch: c.queue.Epoch(), Seq: n.Seq}.String()}
			if err := json.Unmarshal(n.Data, &e.note); err != nil {
				c.t.Fatal(err)
			}
			entries, after = append(entries, e), n.Seq
		}
		if !more {
			return entries
		}
	}
}

// check compares what a stream got with what the log has since the stream's first hello, which was before
// the first job.
func (r *reader) check(log []logEntry, v *verdict) {
	r.mu.Lock()
	defer r.mu.Unlock()
	place := make(map[string]int, len(log))
	for i, e := range log {
		place[e.id] = i
	}
	got, before := make(map[string]bool), -1
	for _, id := range r.ids {
		at, ok := place[id]
		switch {
		case !ok:
			v.unknown++
		case got[id]:
			v.repeated++
		case at < before:
			v.unordered++
		}
		got[id], before = true, max(before, at)
	}
	for _, e := range log {
		if !got[e.id] {
			v.missing++
		}
	}
}

// checkInbox counts the rows that an inbox lacks, or has besides the log's.
func (c *cluster) checkInbox(one *client.Client, log []logEntry) (wrong int) {
	var rows []string
	for n, err := range one.Notifications(c.t.Context(), client.NotificationsQuery{Limit: 100}) {
		if err != nil {
			return len(log)
		}
		rows = append(rows, n.ID)
	}
	for _, e := range log {
		at := slices.Index(rows, e.id)
		if at < 0 {
			wrong++
			continue
		}
		rows = slices.Delete(rows, at, at+1)
	}
	return wrong + len(rows)
}

// judge prints what happened, and fails on anything but zero.
func (c *cluster) judge() {
	v := c.verdict()
	states := make(map[jobs.State]int)
	lost, attempts := 0, 0
	for id, user := range c.accepted {
		if job, err := c.queue.Get(c.t.Context(), user, id); err == nil {
			states[job.State]++
			lost += job.Lost
			attempts += job.Attempt
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d jobs of %d users accepted: %v; %d attempts, %d leases lost\n", len(c.accepted), c.s.users, states, attempts, lost)
	for _, p := range c.processes {
		fmt.Fprintf(&b, "  %-10s killed %d times\n", p.name, p.Kills())
	}
	connects, resets := 0, 0
	for _, r := range c.readers {
		r.mu.Lock() // it may still be connecting
		connects, resets = connects+r.connects, resets+r.resets
		r.mu.Unlock()
	}
	fmt.Fprintf(&b, "%d streams connected %d times, with %d resets\ncalls: %v\n", len(c.readers), connects, resets, c.calls)
	c.t.Logf("\n%s%v", b.String(), v)
	if len(c.accepted) != c.s.jobs {
		c.t.Errorf("only %d of %d jobs were accepted", len(c.accepted), c.s.jobs)
	}
	if v != (verdict{}) {
		c.t.Error("something that must never be, was")
	}
	if resets > 0 {
		c.t.Errorf("%d streams were reset", resets)
	}
}
