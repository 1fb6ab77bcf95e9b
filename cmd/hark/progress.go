package main

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"golang.org/x/term"

	"github.com/hark-jobs/hark/jobs"
)

// How often progress is shown: on a terminal at most ten times a second, elsewhere a line now and then.
const (
	redrawEvery = 100 * time.Millisecond
	lineEvery   = 5 * time.Second
)

// progress shows the progress of a job or a download: one line that is redrawn on a terminal, or a line now and then elsewhere.
// It is safe for concurrent use.
type progress struct {
	w     io.Writer
	width func() int // width of the terminal; nil without a terminal
	title string

	mu      sync.Mutex
	stage   string // shown if there is no count
	done    int64
	total   int64
	unit    string
	rate    rate
	attempt int
	pending bool      // something was not drawn yet
	drawnAt time.Time // time of the last drawing
	drawn   int       // width of the line on the terminal
}

func newProgress(w io.Writer, title string) *progress {
	p := &progress{w: w, title: printable(title)}
	if f, ok := isFile(w); ok && term.IsTerminal(int(f.Fd())) {
		p.width = func() int {
			if width, _, err := term.GetSize(int(f.Fd())); err == nil {
				return width
			}
			return 80
		}
	}
	return p
}

// job shows a newer version of the job.
func (p *progress) job(j jobs.Job) {
	p.mu.Lock()
	defer p.mu.Unlock()
	stage := stageOf(&j)
	changed := stage != p.stage || p.unit != "rows"
	p.stage, p.unit = stage, "rows"
	p.count(j.Progress.Done, j.Progress.Total, changed || j.Attempt != p.attempt)
	p.attempt = j.Attempt
	p.show(changed)
}

// bytes shows the progress of a download.
func (p *progress) bytes(done, total int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	changed := p.unit != "bytes"
	p.stage, p.unit = "downloading", "bytes"
	p.count(done, total, changed)
	p.show(changed)
}

// rows shows the progress of a copy.
func (p *progress) rows(done, total int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stage, p.unit = string(jobs.Running), "rows"
	p.count(done, total, false)
	p.show(false)
}

func (p *progress) count(done, total int64, afresh bool) {
	if afresh || done < p.done {
		p.rate = rate{}
	}
	p.done, p.total = done, total
	p.rate.add(time.Now(), done)
}

// stageOf describes the state of a job.
func stageOf(j *jobs.Job) string {
	switch {
	case j.CancelRequested && !j.State.Terminal():
		return "cancelling"
	case j.State == jobs.Retrying && j.Error != nil:
		return fmt.Sprintf("attempt %d of %d failed (%s), retrying", j.Attempt, j.MaxAttempts, strings.TrimSuffix(printable(j.Error.Message), "."))
	}
	return string(j.State)
}

// tick draws delayed progress. It must be called about every [redrawEvery].
func (p *progress) tick() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pending {
		p.show(false)
	}
}

// printf prints a line, above the progress on a terminal.
func (p *progress) printf(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.erase()
	fmt.Fprintln(p.w, "hark: "+fmt.Sprintf(format, args...))
	p.pending = p.width != nil && p.stage != ""
}

// end removes the progress from the terminal, until the next update.
func (p *progress) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.erase()
	p.stage, p.unit, p.pending = "", "", false
}

func (p *progress) erase() {
	if p.drawn > 0 {
		fmt.Fprintf(p.w, "\r%s\r", strings.Repeat(" ", p.drawn))
		p.drawn = 0
	}
}

// show draws, unless it has just drawn. Without a terminal the pause is longer, except for changes of the state.
func (p *progress) show(changed bool) {
	now := time.Now()
	every := redrawEvery
	if p.width == nil {
		every = lineEvery
	}
	p.pending = now.Sub(p.drawnAt) < every && !(changed && p.width == nil)
	if p.pending {
		return
	}
	p.drawnAt = now
	if p.width == nil {
		fmt.Fprintln(p.w, "hark: "+p.plain())
		return
	}
	line := p.line(p.width() - 1) // a full line would wrap
	n := utf8.RuneCountInString(line)
	fmt.Fprintf(p.w, "\r%s%s", line, strings.Repeat(" ", max(p.drawn-n, 0)))
	p.drawn = n
}

// counted reports whether there are numbers to show.
func (p *progress) counted() bool {
	return p.done > 0 && (p.stage == string(jobs.Running) || p.unit == "bytes")
}

// plain returns the progress as text.
func (p *progress) plain() string {
	if !p.counted() {
		return p.title + ": " + p.stage
	}
	s := p.title + ": " + p.amount()
	if p.unit == "bytes" {
		s = p.title + ": downloaded " + p.amount()
	}
	if p.total > 0 {
		s += fmt.Sprintf(" (%d%%)", p.percent())
	}
	return s + p.pace(", ")
}

// line returns the progress in at most width characters.
func (p *progress) line(width int) string {
	if !p.counted() {
		return cut(p.title+"  "+p.stage, width)
	}
	if p.total <= 0 {
		return cut(p.title+"  "+p.amount()+p.pace("  "), width)
	}
	text := fmt.Sprintf(" %3d%%  %s%s", p.percent(), p.amount(), p.pace("  "))
	room := width - utf8.RuneCountInString(p.title) - len(text) - len("  []")
	if room < 5 {
		return cut(p.title+" "+text, width)
	}
	room = min(room, 30)
	full := int(min(p.done, p.total) * int64(room) / p.total)
	return p.title + "  [" + strings.Repeat("#", full) + strings.Repeat("-", room-full) + "]" + text
}

func (p *progress) percent() int64 {
	return int64(100 * float64(min(p.done, p.total)) / float64(p.total))
}

func (p *progress) amount() string {
	show := formatCount
	if p.unit == "bytes" {
		show = size
	}
	s := show(p.done)
	if p.total > 0 {
		s += " of " + show(p.total)
	}
	if p.unit != "bytes" {
		s += " " + p.unit
	}
	return s
}

// pace returns the rate and the remaining time, each after sep, as far as they are known.
func (p *progress) pace(sep string) string {
	perSecond := p.rate.perSecond()
	if perSecond <= 0 {
		return ""
	}
	s := sep + formatCount(int64(perSecond)) + "/s"
	if p.unit == "bytes" {
		s = sep + size(int64(perSecond)) + "/s"
	}
	if p.total > p.done {
		s += sep + "ETA " + formatDuration(time.Duration(float64(p.total-p.done)/perSecond*float64(time.Second)))
	}
	return s
}

func cut(s string, width int) string {
	if utf8.RuneCountInString(s) <= width {
		return s
	}
	return string([]rune(s)[:max(width, 0)])
}

// rateWindow is the period of the rate: long enough to be steady, short enough to be current.
const rateWindow = 10 * time.Second

// rate measures the rate of a growing count.
type rate struct{ samples []sample }

type sample struct {
	at   time.Time
	done int64
}

func (r *rate) add(at time.Time, done int64) {
	if n := len(r.samples); n > 1 && at.Sub(r.samples[n-2].at) < redrawEvery {
		r.samples[n-1] = sample{at, done} // merge close samples
	} else {
		r.samples = append(r.samples, sample{at, done})
	}
	for len(r.samples) > 2 && at.Sub(r.samples[1].at) >= rateWindow {
		r.samples = r.samples[1:]
	}
}

// perSecond returns the rate, or 0 while it is not known.
func (r *rate) perSecond() float64 {
	if len(r.samples) < 2 {
		return 0
	}
	first, last := r.samples[0], r.samples[len(r.samples)-1]
	passed := last.at.Sub(first.at).Seconds()
	if passed < 0.2 {
		return 0
	}
	return float64(last.done-first.done) / passed
}
