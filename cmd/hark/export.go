package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/hark-jobs/hark/internal/client"
	"github.com/hark-jobs/hark/jobs"
)

const (
	exportKind = "export"
	// cancelWait is how long an interrupted export may take to call its job off.
	cancelWait = 10 * time.Second
	// enqueueTries is how often the server is asked for the job, always with the same key.
	enqueueTries = 5
)

// ExportCmd is hark export.
type ExportCmd struct {
	Dataset string   `arg:"" help:"What to export."`
	Param   []string `short:"p" sep:"none" help:"A param of the dataset, as often as need be." placeholder:"NAME=VALUE"`
	Format  string   `short:"f" help:"xlsx or csv. Without it, what the name after -o ends in, or else the server's choice." placeholder:"FORMAT"`
	Output  string   `short:"o" help:"The file to write, a folder to put it in, or - for stdout. Without it, the server's name for it, here." placeholder:"FILE"`
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
	bar.say("%s", summary(&job, t.path, time.Since(began)))
	if c.Output == "" {
		fmt.Fprintln(s.Out, t.path) // for scripts, which cannot know it
	}
	return nil
}

// request makes the job's request of the flags, and checks it against what the server offers.
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
	return client.Request{}, errors.New("the server offers no exports at the moment; is a worker running?")
}

// formatOf reads the format off the name of the file, if it is one of those hark has.
func formatOf(output string) string {
	switch ext := strings.ToLower(filepath.Ext(output)); ext {
	case ".xlsx", ".csv":
		return ext[1:]
	}
	return ""
}

// enqueue asks until there is an answer: the key makes it one job however often it is asked for.
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

// follow returns the job once it succeeded. When ctx ends it calls the job off.
func follow(ctx context.Context, server *client.Client, job jobs.Job, bar *progress) (jobs.Job, error) {
	told := false
	job, err := server.Follow(ctx, job, client.FollowOptions{
		OnJob: bar.job,
		OnTrouble: func(err error) {
			switch {
			case err == nil:
				bar.say("the server is back")
			case !told:
				bar.say("%v; the job goes on, waiting for the server to come back", err)
			}
			told = err != nil
		},
	})
	switch {
	case ctx.Err() != nil:
		callOff(context.WithoutCancel(ctx), server, job.ID, bar)
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

// callOff asks to cancel the job, waits a little for it to end, and says what came of it.
func callOff(ctx context.Context, server *client.Client, id string, bar *progress) {
	ctx, cancel := context.WithTimeout(ctx, cancelWait)
	defer cancel()
	bar.say("interrupted; cancelling the export (once more to leave at once)")
	job, err := server.Cancel(ctx, id)
	var problem *client.Problem
	switch {
	case errors.As(err, &problem) && problem.Code == "job_ended":
		bar.say("the export had ended already")
		return
	case err != nil:
		bar.say("the export (job %s) could not be cancelled and goes on: %v", id, err)
		return
	}
	if job, err = server.Follow(ctx, job, client.FollowOptions{OnJob: bar.job}); err != nil {
		bar.say("the export (job %s) will be cancelled when its worker has stopped", id)
		return
	}
	bar.say("the export is %s", job.State)
}

// download writes the job's file to the target.
func download(ctx context.Context, server *client.Client, job *jobs.Job, t *target, bar *progress) error {
	w := &counting{w: t.w, tell: func(n int64) { bar.bytes(n, job.File.Size) }}
	if _, err := server.Download(ctx, job.ID, w); err != nil {
		return fmt.Errorf("download: %w", err)
	}
	if job.File.Size > 0 && w.n != job.File.Size {
		return fmt.Errorf("download: got %s of %s bytes", comma(w.n), comma(job.File.Size))
	}
	if err := t.commit(); err != nil {
		return fmt.Errorf("write the file: %w", err)
	}
	return nil
}

// summary says what came of it.
func summary(job *jobs.Job, path string, took time.Duration) string {
	name := path
	if name == "" {
		name = printable(job.File.Name)
	}
	s := name + ": "
	if job.Progress.Done > 0 {
		s += comma(job.Progress.Done) + " rows, "
	}
	return s + size(job.File.Size) + " in " + span(max(took, time.Second))
}

// ticking draws what the progress held back until the function it returns is called.
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
