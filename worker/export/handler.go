package export

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/worker"
)

// Handler returns the handler of the kind export. Two exports run at once unless options say otherwise.
func (e *Exporter) Handler(options ...worker.Option) worker.Handler {
	kind := e.Kind()
	return worker.Handle(kind.Name, e.handle, append([]worker.Option{
		worker.Title(kind.Title), worker.Params(kind.Params...), worker.MaxAttempts(kind.MaxAttempts), worker.Slots(2),
	}, options...)...)
}

func (e *Exporter) handle(ctx context.Context, job *worker.Job, params Params) (jobs.Result, error) {
	params.Identity = Identity{User: job.User, Claims: job.Claims}
	name, contentType := FileName(params, time.Now())
	var info Info
	err := job.WriteFile(ctx, name, contentType, func(w io.Writer) (err error) {
		info, err = e.Run(ctx, params, w, job.Progress)
		return err
	})
	var known *Error
	if errors.As(err, &known) {
		err = &worker.Error{Code: known.Code, Message: known.Message, Err: err}
		if !known.Retryable {
			err = worker.Fail(err)
		}
	}
	if err != nil {
		return jobs.Result{}, err
	}
	return jobs.Result{Value: info, Summary: info.Summary()}, nil
}
