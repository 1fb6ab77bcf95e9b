package worker

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/hark-jobs/hark/jobs"
)

// Handler is the code that a kind of job runs, and the settings of that kind.
type Handler struct {
	kind    jobs.Kind
	slots   int
	perUser int // of the slots, at most; 0 means half of them
	timeout time.Duration
	backoff func(attempt int) time.Duration
	run     func(ctx context.Context, job *Job, params json.RawMessage) (jobs.Result, error)
}

// Handle makes a handler of fn for the kind of this name. The params that the kind takes are read off the
// JSON fields of P: fields without omitempty or omitzero are required, and a text may have 16 KiB unless its tag says
// otherwise, as in `maxlength:"200000"`. Use [Params] to declare them instead.
//
// fn runs on a goroutine of its own, for several jobs at once. Its context ends when the job is cancelled,
// the lease is lost, the time is over, or the worker stops; [context.Cause] says which. To return nil makes
// the job succeed; an error is a failed attempt, and so is a panic. [Fail], [Cancel], [Snooze] and [Error] are
// errors that say more.
func Handle[P any](name string, fn func(ctx context.Context, job *Job, params P) (jobs.Result, error), options ...Option) Handler {
	params, open := paramsOf(reflect.TypeFor[P]())
	h := Handler{
		kind:    jobs.Kind{Name: name, Title: name, Params: params, Open: open, MaxAttempts: 3, MaxWaiting: 1000},
		slots:   8,
		backoff: DefaultBackoff,
		run: func(ctx context.Context, job *Job, raw json.RawMessage) (jobs.Result, error) {
			var p P
			if len(bytes.TrimSpace(raw)) > 0 {
				if err := json.Unmarshal(raw, &p); err != nil {
					return jobs.Result{}, Fail(&Error{"params_invalid", "The job's params are not what its worker expects.", err})
				}
			}
			return fn(ctx, job, p)
		},
	}
	for _, option := range options {
		option(&h)
	}
	return h
}

// Option is a setting of a kind.
type Option func(*Handler)

// Title is what users read of the kind, and the title of jobs that bring none; by default the kind's name.
func Title(title string) Option { return func(h *Handler) { h.kind.Title = title } }

// Allow says who may enqueue jobs of the kind: those for whom one of the rules holds. By default everybody who is signed
// in.
func Allow(rules ...jobs.Rule) Option { return func(h *Handler) { h.kind.Allow = rules } }

// Claims names the claims of the requester's verified token that a job takes with it, for [Job.Claims]. Jobs of requesters
// who lack one are refused. By default there are none.
func Claims(names ...string) Option { return func(h *Handler) { h.kind.Claims = names } }

// MaxAttempts is how often a job is tried that does not say so itself; by default 3.
func MaxAttempts(n int) Option { return func(h *Handler) { h.kind.MaxAttempts = n } }

// Slots is how many jobs of the kind run at once in this worker; by default 8.
func Slots(n int) Option { return func(h *Handler) { h.slots = n } }

// PerUser is how many jobs of one user this worker runs at once: more of theirs wait while others' go on. By default half
// of [Slots], and at least one.
func PerUser(n int) Option { return func(h *Handler) { h.perUser = n } }

// MaxWaiting is how many jobs of the kind one user may have waiting: one more is refused by the notifier. By default
// 1,000.
func MaxWaiting(n int) Option { return func(h *Handler) { h.kind.MaxWaiting = n } }

// Timeout ends the context of an attempt that takes longer; by default there is no limit.
func Timeout(d time.Duration) Option { return func(h *Handler) { h.timeout = d } }

// Backoff says how long to wait after a failed attempt, counted from 1; by default [DefaultBackoff].
func Backoff(f func(attempt int) time.Duration) Option { return func(h *Handler) { h.backoff = f } }

// Params declares what the kind takes, in place of what its Go type says.
func Params(params ...jobs.Param) Option {
	return func(h *Handler) { h.kind.Params, h.kind.Open = params, false }
}

// check returns what is wrong with the settings.
func (h *Handler) check() error {
	if err := jobs.CheckKind(h.kind.Name); err != nil {
		return err
	}
	switch {
	case h.run == nil:
		return fmt.Errorf("kind %s: make its handler with worker.Handle", h.kind.Name)
	case h.slots < 1:
		return fmt.Errorf("kind %s: needs at least one slot", h.kind.Name)
	case h.perUser < 0 || h.kind.MaxWaiting < 0:
		return fmt.Errorf("kind %s: a limit per user is negative", h.kind.Name)
	case h.kind.MaxAttempts < 1 || h.kind.MaxAttempts > jobs.MaxMaxAttempts:
		return fmt.Errorf("kind %s: max attempts must be 1 to %d", h.kind.Name, jobs.MaxMaxAttempts)
	}
	for i := range h.kind.Allow {
		if err := h.kind.Allow[i].Check(); err != nil {
			return fmt.Errorf("kind %s: %w", h.kind.Name, err)
		}
	}
	return nil
}

// paramsOf reads params off a struct type as encoding/json sees it. Types that are no structs, such as
// maps, leave the kind open.
func paramsOf(t reflect.Type) (params []jobs.Param, open bool) {
	if t.Kind() != reflect.Struct {
		return nil, true
	}
	for _, field := range reflect.VisibleFields(t) {
		name, rest, _ := strings.Cut(field.Tag.Get("json"), ",")
		if !field.IsExported() || field.Anonymous || name == "-" {
			continue
		}
		if name == "" {
			name = field.Name
		}
		optional := strings.Contains(rest, "omitempty") || strings.Contains(rest, "omitzero") || field.Type.Kind() == reflect.Pointer
		length, _ := strconv.Atoi(field.Tag.Get("maxlength"))
		params = append(params, jobs.Param{Name: name, Type: paramType(field.Type), Required: !optional, MaxLength: length})
	}
	return params, false
}

func paramType(t reflect.Type) jobs.ParamType {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t.Kind() {
	case reflect.String:
		return jobs.TypeString
	case reflect.Bool:
		return jobs.TypeBoolean
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return jobs.TypeInteger
	case reflect.Float32, reflect.Float64:
		return jobs.TypeNumber
	}
	if t == reflect.TypeFor[time.Time]() {
		return jobs.TypeTime
	}
	return jobs.TypeAny
}
