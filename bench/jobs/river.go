package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
	"github.com/riverqueue/river/rivertype"
)

type riverArgs struct{}

func (riverArgs) Kind() string { return "noop" }

type riverWorker struct {
	river.WorkerDefaults[riverArgs]
}

func (*riverWorker) Work(context.Context, *river.Job[riverArgs]) error { return nil }

// riverSystem is River with its own PostgreSQL, and the settings of River's own benchmark.
type riverSystem struct {
	s      *settings
	server *server
	pool   *pgxpool.Pool
	client *river.Client[pgx.Tx]
}

func openRiver(ctx context.Context, s *settings) (_ system, err error) {
	r := &riverSystem{s: s}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.close())
		}
	}()
	url, server, err := startPostgres(ctx, s)
	if err != nil {
		return nil, err
	}
	r.server = server
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, err
	}
	config.MaxConns = int32(s.riverConns)
	if r.pool, err = pgxpool.NewWithConfig(ctx, config); err != nil {
		return nil, err
	}
	migrator, err := rivermigrate.New(riverpgxv5.New(r.pool), &rivermigrate.Config{Logger: s.log})
	if err != nil {
		return nil, err
	}
	if _, err := migrator.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return nil, err
	}
	return r, nil
}

func (r *riverSystem) about() string {
	return fmt.Sprintf("PostgreSQL, fsync=on, synchronous_commit=on; %d workers, FetchCooldown 2ms, FetchPollInterval 20ms, %d connections",
		r.s.riverWorkers, r.s.riverConns)
}

func (r *riverSystem) reset(ctx context.Context) (err error) {
	for _, sql := range []string{"TRUNCATE river_job", "CHECKPOINT"} {
		if _, err := r.pool.Exec(ctx, sql); err != nil {
			return err
		}
	}
	workers := river.NewWorkers()
	river.AddWorker(workers, &riverWorker{})
	r.client, err = river.NewClient(riverpgxv5.New(r.pool), &river.Config{
		FetchCooldown:     2 * time.Millisecond,
		FetchPollInterval: 20 * time.Millisecond,
		Logger:            r.s.log,
		Queues:            map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: r.s.riverWorkers}},
		Workers:           workers,
	})
	return err
}

func (r *riverSystem) enqueuer(context.Context) (func(context.Context, int) (string, error), error) {
	return func(ctx context.Context, _ int) (string, error) {
		inserted, err := r.client.Insert(ctx, riverArgs{}, nil)
		if err != nil {
			return "", err
		}
		return strconv.FormatInt(inserted.Job.ID, 10), nil
	}, nil
}

// work receives the end of a job from the client, after the batch with its state was committed.
func (r *riverSystem) work(ctx context.Context, finished func(string)) (func() error, error) {
	events, unsubscribe := r.client.SubscribeConfig(&river.SubscribeConfig{
		ChanSize: r.s.n + 1000, Kinds: []river.EventKind{river.EventKindJobCompleted},
	})
	var wg sync.WaitGroup
	wg.Go(func() {
		for event := range events {
			finished(strconv.FormatInt(event.Job.ID, 10))
		}
	})
	if err := r.client.Start(ctx); err != nil {
		unsubscribe()
		return nil, err
	}
	return func() error {
		err := r.client.Stop(context.WithoutCancel(ctx))
		unsubscribe()
		wg.Wait()
		return err
	}, nil
}

func (r *riverSystem) check(ctx context.Context, n int) error {
	var completed int
	err := r.pool.QueryRow(ctx, "SELECT count(*) FROM river_job WHERE state = $1", string(rivertype.JobStateCompleted)).Scan(&completed)
	if err == nil && completed != n {
		err = fmt.Errorf("%d jobs are completed, not %d", completed, n)
	}
	return err
}

func (r *riverSystem) serverCPU() (time.Duration, error) { return r.server.cpu() }

func (r *riverSystem) close() error {
	if r.pool != nil {
		r.pool.Close()
	}
	return r.server.stop()
}
