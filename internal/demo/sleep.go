// Package demo has the kind sleep, for demonstrations and tests.
package demo

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/worker"
)

// sleepParams are what jobs of the kind sleep take.
type sleepParams struct {
	Seconds float64 `json:"seconds,omitempty"`
	Fail    bool    `json:"fail,omitempty"`
}

// Sleep returns the handler of the kind sleep, which sleeps, reports progress, and fails on request.
func Sleep(options ...worker.Option) worker.Handler {
	return worker.Handle(jobs.Define[sleepParams](jobs.Kind{Name: "sleep", Title: "Sleep", Params: []jobs.Param{
		{Name: "seconds", Title: "Seconds", Type: jobs.TypeNumber, Default: 10, Minimum: new(0.0), Maximum: new(24.0 * 60 * 60)},
		{Name: "fail", Title: "Fail at the end", Type: jobs.TypeBoolean},
	}}), sleep, options...)
}

func sleep(ctx context.Context, job *worker.Job, p sleepParams) (jobs.Result, error) {
	const step = 50 * time.Millisecond
	total := time.Duration(p.Seconds * float64(time.Second))
	begin := time.Now()
	for {
		slept := min(time.Since(begin), total)
		job.Progress(int64(slept.Seconds()), int64(math.Ceil(total.Seconds())), "Sleeping, by the second")
		if slept >= total {
			break
		}
		select {
		case <-ctx.Done():
			return jobs.Result{}, context.Cause(ctx)
		case <-time.After(min(step, total-slept)):
		}
	}
	if p.Fail {
		return jobs.Result{}, &worker.Error{Code: "asked_to_fail", Message: "The job failed, as it was asked to."}
	}
	return jobs.Result{Summary: fmt.Sprintf("Slept for %v.", total)}, nil
}
