package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/hark-jobs/hark/client"
	"github.com/hark-jobs/hark/jobs"
)

const (
	exportKind = "export"
	// cancelWait is how long an interrupted export waits for its job to be cancelled.
	cancelWait = 10 * time.Second
	// enqueueTries is the limit of tries to enqueue the job, always with the same key.
	enqueueTries = 5
)

// ExportCmd is hark export.
type ExportCmd struct {
	Dataset string   `arg:"" help:"What to export."`
	Param   []string `short:"p" sep:"none" help:"A param of the dataset. May be given several times." placeholder:"NAME=VALUE"`
	Format  string   `short:"f" help:"xlsx or csv. By default the extension of the file after -o, or else the server's default." placeholder:"FORMAT"`
	Output  string   `short:"o" help:"The file to write, a folder for it, or - for stdout. By default the server's file name, in the current folder." placeholder:"FILE"`
	Connection
	As
}

// Run enqueues the export, shows its progress, and downloads the file.
func (c *ExportCmd) Run(ctx context.Context, s Streams) error {
	if err := checkTarget(c.Output); err != nil {
		return err
	}
	server, err := c.connect(c.User)
	if err != nil {
		return err
	}
	request, err := c.request(ctx, server)
	if err != nil {
		return err
	}
	bar := newProgress(s.Err, c.Dataset)
	defer bar.end()
	defer ticking(bar)()

	began := time.Now()
	job, err := enqueue(ctx, server, request)
	if err != nil {
		return err
	}
	job, err = follow(ctx, server, job, bar)
	if err != nil {
		return err
	}
	t, err := newTarget(c.Output, job.File.Name, s.Out)
	if err != nil {
		return fmt.Errorf("write the file: %w", err)
	}
	defer t.discard()
	if err := download(ctx, server, &job, t, bar); err != nil {
		return fmt.Errorf("%w (the file of job %s is still on the server)", err, job.ID)
	}
	bar.end()
	bar.printf("%s", summary(&job, t.path, time.Since(began)))
	if c.Output == "" {
		fmt.Fprintln(s.Out, t.path) // for scripts, which cannot know it
	}
	return nil
}

// request makes the request from the flags, and checks it against the server's kinds.
func (c *ExportCmd) request(ctx context.Context, server *client.Client) (client.Request, error) {
	kinds, err := server.Kinds(ctx)
	if err != nil {
		return client.Request{}, err
	}
	for i := range kinds {
		kind := &kinds[i]
		if kind.Name != exportKind {
			continue
		}
		given := map[string]string{"dataset": c.Dataset}
		if c.Format != "" {
			given["format"] = c.Format
		}
		if err := splitParams(given, c.Param); err != nil {
			return client.Request{}, err
		}
		if _, ok := given["format"]; !ok {
			if format := formatOf(c.Output); format != "" {
				given["format"] = format
			}
		}
		params, err := typeParams(kind, given)
		return client.Request{Kind: exportKind, Params: params, IdempotencyKey: rand.Text()}, err
	}
	return client.Request{}, errors.New("no worker has published the kind export; check that a worker is running")
}

// formatOf returns the format by the extension of the file name, or "".
func formatOf(output string) string {
	switch ext := strings.ToLower(filepath.Ext(output)); ext {
	case ".xlsx", ".csv":
		return ext[1:]
	}
	return ""
}

// enqueue enqueues the job and retries temporary errors. The idempotency key makes it one job.
func enqueue(ctx context.Context, server *client.Client, request client.Request) (jobs.Job, error) {
	for try := 1; ; try++ {
		job, err := server.Enqueue(ctx, request)
		if err == nil || !client.Temporary(err) || try == enqueueTries {
			return job, err
		}
		select {
		case <-time.After(time.Duration(try) * time.Second):
		case <-ctx.Done():
			return jobs.Job{}, ctx.Err()
		}
	}
}

// follow returns the job when it has succeeded. When ctx ends it cancels the job.
func follow(ctx context.Context, server *client.Client, job jobs.Job, bar *progress) (jobs.Job, error) {
	reported := false
	job, err := server.Follow(ctx, job, client.FollowOptions{
		OnJob: bar.job,
		OnTrouble: func(err error) {
			switch {
			case err == nil:
				bar.printf("reconnected to the server")
			case !reported:
				bar.printf("%v; the job continues; reconnecting", err)
			}
			reported = err != nil
		},
	})
	switch {
	case ctx.Err() != nil:
		cancelJob(context.WithoutCancel(ctx), server, job.ID, bar)
		return job, ctx.Err()
	case err != nil:
		return job, fmt.Errorf("%w (the export is job %s)", err, job.ID)
	case job.State == jobs.Failed && job.Error != nil:
		return job, fmt.Errorf("the export failed: %s", job.Error.Message)
	case job.State != jobs.Succeeded:
		return job, fmt.Errorf("the export was %s", job.State)
	case job.File == nil:
		return job, fmt.Errorf("the export (job %s) succeeded but left no file", job.ID)
	}
	return job, nil
}

// cancelJob cancels the job, waits a little for its end, and prints the outcome.
func cancelJob(ctx context.Context, server *client.Client, id string, bar *progress) {
	ctx, cancel := context.WithTimeout(ctx, cancelWait)
	defer cancel()
	bar.printf("interrupted; cancelling the export (interrupt again to exit at once)")
	job, err := server.Cancel(ctx, id)
	var problem *client.Problem
	switch {
	case errors.As(err, &problem) && problem.Code == "job_ended":
		bar.printf("the export has already ended")
		return
	case err != nil:
		bar.printf("the export (job %s) could not be cancelled and continues: %v", id, err)
		return
	}
	if job, err = server.Follow(ctx, job, client.FollowOptions{OnJob: bar.job}); err != nil {
		bar.printf("the export (job %s) will be cancelled when its worker has stopped", id)
		return
	}
	bar.printf("the export is %s", job.State)
}

// download writes the job's file to the target.
func download(ctx context.Context, server *client.Client, job *jobs.Job, t *target, bar *progress) error {
	w := &counting{w: t.w, tell: func(n int64) { bar.bytes(n, job.File.Size) }}
	if _, err := server.Download(ctx, job.ID, w); err != nil {
		return fmt.Errorf("download: %w", err)
	}
	if job.File.Size > 0 && w.n != job.File.Size {
		return fmt.Errorf("download: got %s of %s bytes", formatCount(w.n), formatCount(job.File.Size))
	}
	if err := t.commit(); err != nil {
		return fmt.Errorf("write the file: %w", err)
	}
	return nil
}

// summary describes the finished export.
func summary(job *jobs.Job, path string, took time.Duration) string {
	name := path
	if name == "" {
		name = printable(job.File.Name)
	}
	s := name + ": "
	if job.Progress.Done > 0 {
		s += formatCount(job.Progress.Done) + " rows, "
	}
	return s + size(job.File.Size) + " in " + formatDuration(max(took, time.Second))
}

// ticking draws delayed progress until the returned function is called.
func ticking(bar *progress) (stop func()) {
	done, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		ticker := time.NewTicker(redrawEvery)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				bar.tick()
			case <-done:
				return
			}
		}
	}()
	return func() { close(done); <-stopped }
}
