// Package worker takes jobs from the queue, runs their handlers, and commits how they ended.
//
//	handler := worker.Handle("report", func(ctx context.Context, job *worker.Job, p Params) (jobs.Result, error) {
//		for i := range p.Pages {
//			job.Progress(int64(i), int64(p.Pages), "")
//			…
//		}
//		return jobs.Result{Summary: "12 pages"}, nil
//	})
//	w, err := worker.New(worker.Options{Queue: queue, Handlers: []worker.Handler{handler}})
//	err = w.Run(ctx) // until ctx ends, and the handlers with it
//
// # What a handler can rely on
//
// A job is run at least once: until its end is committed, a crash of the worker makes another one run it
// again. At any time at most one worker can change what the job says of itself, by compare-and-swap on
// its state. A worker that lost its lease finds out within the lease's length, and its handler's context
// ends with [ErrLeaseLost] as the cause; what it does after that is not recorded anywhere.
package worker
