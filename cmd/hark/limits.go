package main

import (
	"fmt"

	"github.com/hark-jobs/hark"
	"github.com/hark-jobs/hark/worker"
)

// checkLimits returns an error for a kind that is not hark's own, or a number that is too small.
func (f *workerFlags) checkLimits() error {
	for _, l := range []struct {
		flag  string
		of    map[string]int
		least int
	}{
		{"concurrency", f.Concurrency, 1},
		{"running-per-user", f.RunningPerUser, 1},
		{"waiting-per-user", f.WaitingPerUser, 0},
	} {
		for kind, n := range l.of {
			if kind != "export" && kind != "sleep" || n < l.least {
				return &hark.Error{Code: "limit_invalid", Message: fmt.Sprintf("--%s %s=%d: it takes the kinds export and sleep, and numbers from %d.", l.flag, kind, n, l.least)}
			}
		}
	}
	return nil
}

// limits returns the limits of a kind as its handler takes them.
func (f *workerFlags) limits(kind string) (options []worker.Option) {
	for _, o := range []struct {
		of     map[string]int
		option func(int) worker.Option
	}{
		{f.Concurrency, worker.Concurrency},
		{f.RunningPerUser, worker.PerUser},
		{f.WaitingPerUser, worker.MaxWaiting},
	} {
		if n, ok := o.of[kind]; ok {
			options = append(options, o.option(n))
		}
	}
	return options
}
