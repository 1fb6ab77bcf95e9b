package main

import (
	"fmt"
	"io"
	"slices"
	"time"
)

// report prints each figure on a line, and stores the figures for the summary of several rounds.
type report struct {
	out   io.Writer
	bench string // the current case
	order []figureKey
	seen  map[figureKey]*figure
}

type figureKey struct{ bench, name string }

type figure struct {
	values []float64
	unit   string
	target target
}

// target is the expected bound of a figure. The zero target has none.
type target struct {
	bound float64
	least bool // the bound is a minimum, not a maximum
}

func atMost(bound float64) target  { return target{bound: bound} }
func atLeast(bound float64) target { return target{bound: bound, least: true} }

var noTarget target

// ratio is the unit of a figure that has none; without a unit it is a count.
const ratio = "×"

func newReport(out io.Writer) *report {
	return &report{out: out, seen: make(map[figureKey]*figure)}
}

// add records a figure.
func (r *report) add(name string, value float64, unit string, t target) {
	key := figureKey{r.bench, name}
	f := r.seen[key]
	if f == nil {
		f = &figure{unit: unit, target: t}
		r.seen[key] = f
		r.order = append(r.order, key)
	}
	f.values = append(f.values, value)
	r.line(key, show(value, unit), f, value)
}

// took records a duration.
func (r *report) took(name string, d time.Duration, t target) {
	r.add(name, float64(d)/float64(time.Millisecond), "ms", t)
}

// quantiles records the distribution of durations. The target is for the 99th percentile.
func (r *report) quantiles(name string, all []time.Duration, t target) {
	slices.Sort(all)
	r.took(name+", p50", quantile(all, 0.50), noTarget)
	r.took(name+", p90", quantile(all, 0.90), noTarget)
	r.took(name+", p99", quantile(all, 0.99), t)
	r.took(name+", max", quantile(all, 1), noTarget)
}

// quantile returns the q-th of sorted durations, 0 if there are none.
func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(int(float64(len(sorted))*q), len(sorted)-1)]
}

// summary prints the median and the range of each figure over the rounds.
func (r *report) summary() {
	fmt.Fprintln(r.out, "\nmedian of all rounds (least … most)")
	for _, key := range r.order {
		f := r.seen[key]
		slices.Sort(f.values)
		median := f.values[len(f.values)/2]
		r.line(key, fmt.Sprintf("%s (%s … %s)", show(median, f.unit), show(f.values[0], f.unit), show(f.values[len(f.values)-1], f.unit)), f, median)
	}
}

func (r *report) line(key figureKey, measured string, f *figure, value float64) {
	fmt.Fprintf(r.out, "%-9s | %-52s | %24s | %s\n", key.bench, key.name, measured, f.target.judge(value, f.unit))
}

// judge returns the target, and whether the figure meets it.
func (t target) judge(value float64, unit string) string {
	if t == noTarget {
		return ""
	}
	sign, good := "≤", value <= t.bound
	if t.least {
		sign, good = "≥", value >= t.bound
	}
	word := map[bool]string{true: "ok", false: "MISSED"}[good]
	return fmt.Sprintf("%s %s %s", sign, show(t.bound, unit), word)
}

func show(value float64, unit string) string {
	digits := 0
	switch {
	case unit == "" || unit == "B" || unit != ratio && value >= 1000:
	case value >= 100:
		digits = 1
	case value >= 10:
		digits = 2
	default:
		digits = 3
	}
	if unit != "" {
		unit = " " + unit
	}
	return fmt.Sprintf("%.*f%s", digits, value, unit)
}
