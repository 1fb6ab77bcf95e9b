package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/hark-jobs/hark/client"
	"github.com/hark-jobs/hark/jobs"
)

// JobsCmd is hark jobs.
type JobsCmd struct {
	State []string `short:"s" help:"Only those in these states: queued, running, retrying, succeeded, failed, cancelled." placeholder:"STATE,..."`
	Limit int      `short:"n" default:"20" help:"Maximum number of jobs; 0 for all."`
	JSON  bool     `name:"json" help:"Print each as a line of JSON."`
	Connection
	As
}

// Run lists the jobs.
func (c *JobsCmd) Run(ctx context.Context, s Streams) error {
	q := client.JobsQuery{Limit: c.Limit}
	for _, state := range c.State {
		if !jobs.State(state).Valid() {
			return badUsage("--state %s is not one of %s", state, strings.Trim(fmt.Sprint(jobs.States), "[]"))
		}
		q.States = append(q.States, jobs.State(state))
	}
	if c.Limit < 0 {
		return badUsage("--limit must be 0 or more")
	}
	server, err := c.connect(c.User)
	if err != nil {
		return err
	}
	if c.JSON {
		enc := json.NewEncoder(s.Out)
		for job, err := range server.Jobs(ctx, q) {
			if err != nil {
				return err
			}
			if err := enc.Encode(job); err != nil {
				return err
			}
		}
		return nil
	}
	table := tabwriter.NewWriter(s.Out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "ID\tSTATE\tKIND\tENQUEUED\tTITLE\tPROGRESS")
	for job, err := range server.Jobs(ctx, q) {
		if err != nil {
			return err
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\n", printable(job.ID), job.State, printable(job.Kind),
			job.CreatedAt.Local().Format(time.DateTime), printable(job.Title), progressText(&job))
	}
	return table.Flush()
}

// progressText describes the progress of a job, or its error.
func progressText(job *jobs.Job) string {
	switch {
	case job.Error != nil && job.State != jobs.Succeeded && job.State != jobs.Running:
		return printable(job.Error.Message)
	case job.Progress.Total > 0 && !job.State.Terminal():
		return fmt.Sprintf("%d%% (%s of %s)", 100*job.Progress.Done/job.Progress.Total, formatCount(job.Progress.Done), formatCount(job.Progress.Total))
	case job.File != nil:
		return printable(job.File.Name) + ", " + size(job.File.Size)
	case job.Progress.Done > 0:
		return formatCount(job.Progress.Done)
	}
	return ""
}
