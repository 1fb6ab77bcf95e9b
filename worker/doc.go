// Package worker fetches jobs, runs their handlers, and commits the outcomes.
//
//	var Report = jobs.Define[Params](jobs.Kind{Name: "report"})
//
//	handler := worker.Handle(Report, func(ctx context.Context, job *worker.Job, p Params) (jobs.Result, error) {
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
//  1. A handler runs at least once for each job. If the worker crashes before the outcome is committed, another worker runs
//     the job again.
//  2. At most one worker can write the state of a job, by compare-and-swap on its revision.
//  3. When a worker loses its lease, the handler's context ends within the length of the lease, with [ErrLeaseLost] as the
//     cause. Nothing that the handler does afterwards is stored.
package worker
