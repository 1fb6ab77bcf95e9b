package export

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/worker"
)

// Handler returns the handler of the kind export. Its concurrency defaults to 2.
func (e *Exporter) Handler(options ...worker.Option) worker.Handler {
	return worker.Handle(jobs.Define[Params](e.Kind()), e.handle, append([]worker.Option{worker.Concurrency(2)}, options...)...)
}

func (e *Exporter) handle(ctx context.Context, job *worker.Job, params Params) (jobs.Result, error) {
	params.Identity = Identity{User: job.User, Claims: job.Claims}
	name, contentType := FileName(params, time.Now())
	var info Info
	err := job.WriteFile(ctx, name, contentType, func(w io.Writer) (err error) {
		info, err = e.Run(ctx, params, w, job.Progress)
		return err
	})
	var left *notEndedError
	if errors.As(err, &left) {
		job.Log.Warn("a cancelled query may still be running in the database", "dataset", params.Dataset, "error", left)
	}
	var known *Error
	if errors.As(err, &known) {
		err = &worker.Error{Code: known.Code, Message: known.Message, Err: err}
		if !known.Retryable {
			err = worker.Fail(err)
		}
	}
	if err != nil && errors.Is(context.Cause(ctx), worker.ErrTimeout) {
		err = worker.Fail(err) // the same export would time out again
	}
	if err != nil {
		return jobs.Result{}, err
	}
	return jobs.Result{Value: info, Summary: info.Summary()}, nil
}
