package backup_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	_ "modernc.org/sqlite"

	"github.com/hark-jobs/hark/harktest"
	"github.com/hark-jobs/hark/internal/backup"
	"github.com/hark-jobs/hark/internal/joblog"
	"github.com/hark-jobs/hark/internal/natstest"
	"github.com/hark-jobs/hark/internal/polltest"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/worker"
)

// ledger records the requests to a whole hark, and its responses.
type ledger struct {
	*testing.T
	runs    sync.Map // how often the current hark has started a job's handler: id to *atomic.Int64
	release atomic.Bool
}

type reportParams struct {
	Fail bool `json:"fail,omitempty"`
	Hold bool `json:"hold,omitempty"`
}

// report writes a file of some chunks whose content depends on the job.
func (l *ledger) report(ctx context.Context, job *worker.Job, p reportParams) (jobs.Result, error) {
	n, _ := l.runs.LoadOrStore(job.ID, new(atomic.Int64))
	n.(*atomic.Int64).Add(1)
	for p.Hold && !l.release.Load() {
		select {
		case <-ctx.Done():
			return jobs.Result{}, ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
	if p.Fail {
		return jobs.Result{}, worker.Fail(errors.New("as it was wanted"))
	}
	err := job.WriteFile(ctx, "report.bin", "application/octet-stream", func(w io.Writer) error {
		_, err := w.Write(fileOf(job.ID))
		return err
	})
	return jobs.Result{}, err
}

func fileOf(id string) []byte { return bytes.Repeat([]byte(id+"\n"), 6000) }

func (l *ledger) ran(id string) int64 {
	if n, ok := l.runs.Load(id); ok {
		return n.(*atomic.Int64).Load()
	}
	return 0
}

// call makes a request as user and decodes the response into answer, unless that is nil.
func (l *ledger) call(h *harktest.Hark, user, method, path string, answer any) []byte {
	l.Helper()
	req, err := http.NewRequestWithContext(l.Context(), method, h.URL+path, nil)
	if err != nil {
		l.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+h.Token(user))
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		l.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode >= 300 {
		l.Fatalf("%s %s: %s %s %v", method, path, res.Status, body, err)
	}
	if answer != nil {
		if err := json.Unmarshal(body, answer); err != nil {
			l.Fatal(err)
		}
	}
	return body
}

// inbox reads the whole inbox of a user, by key. A duplicate key is an error.
func (l *ledger) inbox(h *harktest.Hark, user string) map[string]jobs.Notification {
	l.Helper()
	all := map[string]jobs.Notification{}
	for next := ""; ; {
		var page struct {
			Notifications []jobs.Notification
			Next          string
		}
		l.call(h, user, "GET", "/v1/notifications?limit=100&before="+next, &page)
		for _, n := range page.Notifications {
			if _, ok := all[n.Key]; ok {
				l.Errorf("%s has %s twice", user, n.Key)
			}
			all[n.Key] = n
		}
		next = page.Next
		if next == "" {
			return all
		}
	}
}

func (l *ledger) enqueue(q *joblog.Store, kind, params string) jobs.Job {
	l.Helper()
	job, _, err := q.Enqueue(natstest.Context(l), jobs.Request{Kind: kind, User: "ana", Params: json.RawMessage(params)})
	if err != nil {
		l.Fatal(err)
	}
	return job
}

func (l *ledger) get(q *joblog.Store, id string) jobs.Job {
	l.Helper()
	job, err := q.Get(natstest.Context(l), "ana", id)
	if err != nil {
		l.Fatalf("job %s: %v", id, err)
	}
	return job
}

func (l *ledger) notify(q *joblog.Store, user, key string) {
	l.Helper()
	if _, _, err := q.Notify(natstest.Context(l), user, jobs.Notification{Type: "t", Title: key, Key: key}); err != nil {
		l.Fatal(err)
	}
}

// copyInbox makes a copy of a SQLite inbox that is in use.
func copyInbox(t *testing.T, from, to string) {
	t.Helper()
	db, err := sql.Open("sqlite", from)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec("VACUUM INTO ?", to); err != nil {
		t.Fatal(err)
	}
}

// A running hark is backed up, inbox first. The restored hark has everything that was accepted before: jobs with their states and files, and
// each notification once, read or unread as in the inbox.
func TestLedger(t *testing.T) {
	t.Parallel()
	l, ctx := &ledger{T: t}, t.Context()
	data, copied := t.TempDir(), t.TempDir()
	report := worker.Handle(jobs.Define[reportParams](jobs.Kind{Name: "report"}), l.report, worker.Concurrency(4), worker.PerUser(4))
	h := harktest.Start(t, harktest.Data(data), harktest.Handlers(report), harktest.Lease(2*time.Second))
	q := h.Queue.Store()
	if err := q.PublishKind(ctx, jobs.Kind{Name: "later", Title: "later", MaxAttempts: 1, Open: true}); err != nil {
		t.Fatal(err)
	}

	var ended, held, queued []jobs.Job
	for i := range 12 {
		ended = append(ended, l.enqueue(q, "report", fmt.Sprintf(`{"fail":%v}`, i%4 == 0)))
	}
	for i := range ended {
		polltest.Until(t, "each job ends", func() bool { ended[i] = l.get(q, ended[i].ID); return ended[i].State.Terminal() })
	}
	retried, err := q.Retry(ctx, "ana", ended[0].ID, nil)
	if err != nil {
		t.Fatal(err)
	}
	polltest.Until(t, "the second run ends", func() bool { j := l.get(q, retried.ID); return j.Run == 2 && j.State.Terminal() })
	ended[0] = l.get(q, retried.ID)
	for range 2 {
		held = append(held, l.enqueue(q, "report", `{"hold":true}`))
	}
	for _, job := range held {
		polltest.Until(t, "the job runs", func() bool { return l.get(q, job.ID).State == jobs.Running })
	}
	for range 3 {
		queued = append(queued, l.enqueue(q, "later", `{}`))
	}
	for i := range 6 {
		l.notify(q, "ana", fmt.Sprintf("own %d", i))
	}
	l.notify(q, jobs.Everyone, "all 0")
	l.notify(q, jobs.Everyone, "all 1")
	l.notify(q, jobs.Everyone, "all 2")
	var before map[string]jobs.Notification
	polltest.Until(t, "the inbox has all", func() bool { before = l.inbox(h, "ana"); return len(before) == len(ended)+1+6+3 })
	for _, key := range []string{"own 0", "own 1", "all 0"} {
		l.call(h, "ana", "POST", "/v1/notifications/"+before[key].ID+"/read", nil)
	}
	for _, key := range []string{"own 2", "all 1"} {
		l.call(h, "ana", "DELETE", "/v1/notifications/"+before[key].ID, nil)
	}
	copyInbox(t, filepath.Join(data, "inbox.db"), filepath.Join(copied, "inbox.db"))
	old, err := jobs.ParseNotificationID(before["own 5"].ID)
	if err != nil {
		t.Fatal(err)
	}

	// Between the two backups: the log has this, and the inbox's copy does not.
	l.call(h, "ana", "POST", "/v1/notifications/"+before["own 3"].ID+"/read", nil)
	l.notify(q, "ana", "between")
	l.notify(q, jobs.Everyone, "all between")
	between := l.enqueue(q, "report", `{}`)
	polltest.Until(t, "the job ends", func() bool { between = l.get(q, between.ID); return between.State.Terminal() })
	ended = append(ended, between)

	// hark continues meanwhile.
	var wg sync.WaitGroup
	working, stop := context.WithCancel(ctx)
	defer wg.Wait()
	defer stop()
	var accepted sync.Map // of jobs and keys, to when
	for w := range 2 {
		wg.Go(func() {
			for i := 0; working.Err() == nil; i++ {
				key := fmt.Sprintf("meanwhile %d %d", w, i)
				l.notify(q, "ana", key)
				accepted.Store(key, time.Now())
				job := l.enqueue(q, "report", `{}`)
				accepted.Store(job.ID, time.Now())
			}
		})
	}
	polltest.Until(t, "jobs are accepted meanwhile", func() bool { _, ok := accepted.Load("meanwhile 0 5"); return ok })
	began := time.Now()
	dir := filepath.Join(t.TempDir(), "backup")
	summary, err := backup.Backup(ctx, q.Conn(), joblog.Location{}, dir, logTo(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", summary)
	stop()
	wg.Wait()
	h.Stop()

	nc, close, err := backup.Local(copied, logTo(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, err = backup.Restore(ctx, nc, dir, backup.Options{Logger: logTo(t)}); err != nil {
		t.Fatal(err)
	}
	close()
	secret, err := os.ReadFile(filepath.Join(data, "secret"))
	if err == nil {
		err = os.WriteFile(filepath.Join(copied, "secret"), secret, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	l.runs.Clear()
	l.release.Store(true)
	h = harktest.Start(t, harktest.Data(copied), harktest.Lease(2*time.Second),
		harktest.Handlers(report, worker.Handle(jobs.Define[reportParams](jobs.Kind{Name: "later"}), l.report)))
	defer http.DefaultClient.CloseIdleConnections()
	q = h.Queue.Store()

	for _, was := range ended {
		is := l.get(q, was.ID)
		was.Revision, is.Revision = 0, 0
		if !sameJob(is, was) {
			t.Errorf("job is %+v, and was %+v", is, was)
		}
		if is.File != nil && !bytes.Equal(l.call(h, "ana", "GET", "/v1/jobs/"+is.ID+"/file", nil), fileOf(is.ID)) {
			t.Errorf("the file of %s is another", is.ID)
		}
	}
	for _, job := range append(held, queued...) {
		polltest.Until(t, "the job succeeds", func() bool { return l.get(q, job.ID).State == jobs.Succeeded })
		if n := l.ran(job.ID); n != 1 {
			t.Errorf("job %s ran %d times", job.ID, n)
		}
	}
	want := []string{"own 0", "own 1", "own 3", "own 4", "own 5", "all 0", "all 2", "between", "all between"}
	accepted.Range(func(what, when any) bool {
		if when.(time.Time).After(began) {
			return true // the backup may have it or not
		}
		if key := what.(string); strings.Contains(key, " ") {
			want = append(want, key)
		} else {
			polltest.Until(t, "the job succeeds", func() bool { return l.get(q, key).State == jobs.Succeeded })
		}
		return true
	})
	// All messages in transit are ingested before the inbox is read.
	l.notify(q, "ana", "last")
	var inbox map[string]jobs.Notification
	polltest.Until(t, "the inbox has the last one", func() bool { inbox = l.inbox(h, "ana"); return inbox["last"].ID != "" })
	for _, key := range want {
		n, ok := inbox[key]
		read := key == "own 0" || key == "own 1" || key == "all 0"
		if !ok || (n.Status == jobs.Read) != read {
			t.Errorf("%s is %q in the inbox", key, n.Status)
		}
	}
	for _, key := range []string{"own 2", "all 1"} {
		if _, ok := inbox[key]; ok {
			t.Errorf("%s is back", key)
		}
	}
	// Ids of the old epoch still identify notifications of the inbox.
	l.call(h, "ana", "POST", "/v1/notifications/"+before["own 4"].ID+"/read", nil)
	l.call(h, "ana", "DELETE", "/v1/notifications/"+before["own 5"].ID, nil)
	l.call(h, "ana", "POST", "/v1/notifications/"+before["all 2"].ID+"/read", nil)
	inbox = l.inbox(h, "ana")
	if _, ok := inbox["own 5"]; ok || inbox["own 4"].Status != jobs.Read || inbox["all 2"].Status != jobs.Read {
		t.Errorf("old ids change nothing: %+v, %+v", inbox["own 4"], inbox["all 2"])
	}
	for _, job := range ended {
		if n := l.ran(job.ID); n != 0 {
			t.Errorf("job %s, which had ended, ran %d times", job.ID, n)
		}
	}

	// A stream that resumes after an id of the old epoch gets a reset.
	req, err := http.NewRequestWithContext(ctx, "GET", h.URL+"/v1/stream", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+h.Token("ana"))
	req.Header.Set("Last-Event-ID", old.Position().String())
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	head := make([]byte, 0, 4096)
	for !bytes.Contains(head, []byte("event: reset")) {
		n, err := res.Body.Read(head[len(head):cap(head)])
		head = head[:len(head)+n]
		if err != nil || len(head) == cap(head) {
			t.Fatalf("no reset in %s, %v", head, err)
		}
	}
}

// With the wrong order the inbox is newer than the log: it has the end of a job that the log does not have. The job runs again, and the first
// notification stays. Still nothing is duplicated, and no later notification is missing.
func TestInboxNewer(t *testing.T) {
	t.Parallel()
	l, ctx, data, copied, dir := &ledger{T: t}, t.Context(), t.TempDir(), t.TempDir(), filepath.Join(t.TempDir(), "backup")
	l.release.Store(false)
	report := worker.Handle(jobs.Define[reportParams](jobs.Kind{Name: "report"}), l.report)
	h := harktest.Start(t, harktest.Data(data), harktest.Handlers(report), harktest.Lease(2*time.Second))
	l.notify(h.Queue.Store(), "ana", "before")
	job := l.enqueue(h.Queue.Store(), "report", `{"hold":true}`)
	polltest.Until(t, "the job runs", func() bool { return l.get(h.Queue.Store(), job.ID).State == jobs.Running })
	if _, err := backup.Backup(ctx, h.Queue.Store().Conn(), joblog.Location{}, dir, logTo(t)); err != nil {
		t.Fatal(err)
	}
	l.notify(h.Queue.Store(), "ana", "after")
	l.release.Store(true)
	var notified map[string]jobs.Notification
	polltest.Until(t, "the inbox has all", func() bool { notified = l.inbox(h, "ana"); return len(notified) == 3 })
	copyInbox(t, filepath.Join(data, "inbox.db"), filepath.Join(copied, "inbox.db"))
	h.Stop()

	nc, close, err := backup.Local(copied, logTo(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, err = backup.Restore(ctx, nc, dir, backup.Options{Logger: logTo(t)}); err != nil {
		t.Fatal(err)
	}
	close()
	l.runs.Clear()
	h = harktest.Start(t, harktest.Data(copied), harktest.Handlers(report), harktest.Lease(2*time.Second))
	defer http.DefaultClient.CloseIdleConnections()
	polltest.Until(t, "the job succeeds", func() bool { return l.get(h.Queue.Store(), job.ID).State == jobs.Succeeded })
	if n := l.ran(job.ID); n != 1 {
		t.Errorf("the job ran %d times", n)
	}
	// More messages than the old log had, so that their sequences were used in the other epoch.
	for i := range 5 {
		l.notify(h.Queue.Store(), "ana", fmt.Sprint("later ", i))
	}
	var inbox map[string]jobs.Notification
	polltest.Until(t, "the inbox has the new ones", func() bool { inbox = l.inbox(h, "ana"); return len(inbox) >= len(notified)+5 })
	for key, n := range notified {
		if inbox[key].ID != n.ID {
			t.Errorf("%s is %s, and was %s", key, inbox[key].ID, n.ID)
		}
	}
}

// sameJob compares the JSON of jobs.
func sameJob(a, b jobs.Job) bool {
	x, err1 := json.Marshal(a)
	y, err2 := json.Marshal(b)
	return err1 == nil && err2 == nil && bytes.Equal(x, y)
}
