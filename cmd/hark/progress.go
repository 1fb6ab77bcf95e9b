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

// progress shows how far something has come: one line that redraws itself on a terminal, a line now and
// then elsewhere. It is safe for concurrent use.
type progress struct {
	w     io.Writer
	width func() int // of the terminal; nil if it is none
	title string

	mu      sync.Mutex
	stage   string // what is going on, if there is no count to show
	done    int64
	total   int64
	unit    string
	rate    rate
	attempt int
	pending bool      // there is something that was not drawn yet
	drawnAt time.Time // when it was last
	drawn   int       // the width of the line that stands on the terminal
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

// bytes shows how much of a download is here.
func (p *progress) bytes(done, total int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	changed := p.unit != "bytes"
	p.stage, p.unit = "downloading", "bytes"
	p.count(done, total, changed)
	p.show(changed)
}

func (p *progress) count(done, total int64, afresh bool) {
	if afresh || done < p.done {
		p.rate = rate{}
	}
	p.done, p.total = done, total
	p.rate.add(time.Now(), done)
}

// stageOf says in words where a job stands.
func stageOf(j *jobs.Job) string {
	switch {
	case j.CancelRequested && !j.State.Terminal():
		return "cancelling"
	case j.State == jobs.Retrying && j.Error != nil:
		return fmt.Sprintf("attempt %d of %d failed (%s), trying again", j.Attempt, j.MaxAttempts, strings.TrimSuffix(printable(j.Error.Message), "."))
	}
	return string(j.State)
}

// tick draws what show held back. It is to be called every [redrawEvery] or so.
func (p *progress) tick() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pending {
		p.show(false)
	}
}

// say writes a line of its own, above the progress if that is on a terminal.
func (p *progress) say(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.erase()
	fmt.Fprintln(p.w, "hark: "+fmt.Sprintf(format, args...))
	p.pending = p.width != nil && p.stage != ""
}

// end takes the progress off the terminal, for good unless there is news.
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

// show draws unless it has just drawn; a line that is not for a terminal waits longer, but for changes.
func (p *progress) show(changed bool) {
	now := time.Now()
	every := redrawEvery
	if p.width == nil {
		every = lineEvery
	}
	if p.pending = now.Sub(p.drawnAt) < every && !(changed && p.width == nil); p.pending {
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

// plain is the progress in words.
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

// line is the progress in at most width characters.
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
	show := comma
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

// pace is how fast it goes and how long it will take, each after sep, as far as that is known.
func (p *progress) pace(sep string) string {
	perSecond := p.rate.perSecond()
	if perSecond <= 0 {
		return ""
	}
	s := sep + comma(int64(perSecond)) + "/s"
	if p.unit == "bytes" {
		s = sep + size(int64(perSecond)) + "/s"
	}
	if p.total > p.done {
		s += sep + "ETA " + span(time.Duration(float64(p.total-p.done)/perSecond*float64(time.Second)))
	}
	return s
}

func cut(s string, width int) string {
	if utf8.RuneCountInString(s) <= width {
		return s
	}
	return string([]rune(s)[:max(width, 0)])
}

// rateWindow is how far back the pace is measured: long enough to be calm, short enough to be true.
const rateWindow = 10 * time.Second

// rate measures a pace from a count that only grows.
type rate struct{ samples []sample }

type sample struct {
	at   time.Time
	done int64
}

func (r *rate) add(at time.Time, done int64) {
	if n := len(r.samples); n > 1 && at.Sub(r.samples[n-2].at) < redrawEvery {
		r.samples[n-1] = sample{at, done} // close ones are one
	} else {
		r.samples = append(r.samples, sample{at, done})
	}
	for len(r.samples) > 2 && at.Sub(r.samples[1].at) >= rateWindow {
		r.samples = r.samples[1:]
	}
}

// perSecond returns 0 while it is too early to tell.
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
