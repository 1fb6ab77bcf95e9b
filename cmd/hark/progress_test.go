package main

import (
	"bytes"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hark-jobs/hark/jobs"
)

// play shows the life of one job, a second a step, and its download.
func play(p *progress) {
	job := jobs.Job{State: jobs.Queued, MaxAttempts: 3}
	step := func(change func()) {
		change()
		p.job(job)
		time.Sleep(time.Second)
		p.tick()
	}
	step(func() {})
	step(func() { job.State, job.Attempt = jobs.Running, 1 })
	step(func() { job.Progress = jobs.Progress{Done: 25_000, Total: 300_000} })
	step(func() { job.Progress.Done = 50_000 })
	step(func() {
		job.State, job.Error = jobs.Retrying, &jobs.Error{Message: "The database\x1b[31m is away."}
	})
	step(func() {
		job.State, job.Attempt, job.Progress, job.Error = jobs.Running, 2, jobs.Progress{}, nil
	})
	for done := int64(50_000); done <= 300_000; done += 50_000 {
		step(func() { job.Progress = jobs.Progress{Done: done, Total: 300_000} })
	}
	p.printf("the server is back")
	step(func() { job.State = jobs.Succeeded })
	for done := int64(0); done <= 12_000_000; done += 4_000_000 {
		p.bytes(done, 12_000_000)
		time.Sleep(time.Second)
		p.tick()
	}
	p.end()
	p.printf("done")
	p.tick()
}

func TestProgressInLines(t *testing.T) {
	const want = `hark: orders: queued
hark: orders: running
hark: orders: attempt 1 of 3 failed (The database�[31m is away), retrying
hark: orders: running
hark: orders: 200,000 of 300,000 rows (66%), 50,000/s, ETA 2s
hark: the server is back
hark: orders: succeeded
hark: orders: downloading
hark: done
`
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		play(newProgress(&out, "orders"))
		if out.String() != want {
			t.Errorf("got:\n%s\nwant:\n%s", out.String(), want)
		}
	})
}

func TestProgressOnATerminal(t *testing.T) {
	const want = `orders  queued
orders  running
orders  [##----------------------------]   8%  25,000 of 300,000 rows  25,000/s  ETA 11s
orders  [#####-------------------------]  16%  50,000 of 300,000 rows  25,000/s  ETA 10s
orders  attempt 1 of 3 failed (The database�[31m is away), retrying
orders  running
orders  [#####-------------------------]  16%  50,000 of 300,000 rows  50,000/s  ETA 5s
orders  [##########--------------------]  33%  100,000 of 300,000 rows  50,000/s  ETA 4s
orders  [###############---------------]  50%  150,000 of 300,000 rows  50,000/s  ETA 3s
orders  [####################----------]  66%  200,000 of 300,000 rows  50,000/s  ETA 2s
orders  [#########################-----]  83%  250,000 of 300,000 rows  50,000/s  ETA 1s
orders  [##############################] 100%  300,000 of 300,000 rows  50,000/s
hark: the server is back
orders  succeeded
orders  downloading
orders  [##########--------------------]  33%  4.0 MB of 12 MB  4.0 MB/s  ETA 2s
orders  [####################----------]  66%  8.0 MB of 12 MB  4.0 MB/s  ETA 1s
orders  [##############################] 100%  12 MB of 12 MB  4.0 MB/s
hark: done
`
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		p := newProgress(&out, "orders")
		p.width = func() int { return 100 }
		play(p)
		// What a terminal shows, one line after the other.
		var got strings.Builder
		for _, line := range strings.FieldsFunc(out.String(), func(r rune) bool { return r == '\r' || r == '\n' }) {
			if line = strings.TrimRight(line, " "); line != "" {
				got.WriteString(line + "\n")
			}
		}
		if got.String() != want {
			t.Errorf("got:\n%s\nwant:\n%s", got.String(), want)
		}
	})
}

// TestProgressFitsTheTerminal holds that no line reaches the last column, where it would wrap.
func TestProgressFitsTheTerminal(t *testing.T) {
	for width := range 120 {
		synctest.Test(t, func(t *testing.T) {
			var out bytes.Buffer
			p := newProgress(&out, "ördérs")
			p.width = func() int { return width }
			play(p)
			for _, line := range strings.FieldsFunc(out.String(), func(r rune) bool { return r == '\r' || r == '\n' }) {
				if n := len([]rune(line)); n >= max(width, 1) && !strings.HasPrefix(line, "hark: ") {
					t.Fatalf("%d characters in a terminal of %d: %q", n, width, line)
				}
			}
		})
	}
}

func TestProgressRedrawsTenTimesASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		p := newProgress(&out, "orders")
		p.width = func() int { return 80 }
		for done := range int64(10_000) {
			p.job(jobs.Job{State: jobs.Running, Attempt: 1, Progress: jobs.Progress{Done: done, Total: 10_000}})
			time.Sleep(time.Millisecond)
		}
		if n := strings.Count(out.String(), "\r"); n < 90 || n > 101 {
			t.Errorf("drew %d times in 10 s, want about 100", n)
		}
		p.tick()
		time.Sleep(redrawEvery)
		p.tick()
		if !strings.Contains(out.String(), "9,999 of 10,000") {
			t.Error("the last count was never drawn")
		}
	})
}
