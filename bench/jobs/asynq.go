package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
)

const asynqTask = "noop"

// asynqSystem is Asynq with its own Redis.
type asynqSystem struct {
	s      *settings
	server *server
	opt    asynq.RedisClientOpt
	client *asynq.Client
	redis  *redis.Client
}

func openAsynq(ctx context.Context, s *settings) (_ system, err error) {
	addr, server, err := startRedis(ctx, s)
	if err != nil {
		return nil, err
	}
	a := &asynqSystem{s: s, server: server, opt: asynq.RedisClientOpt{Addr: addr, PoolSize: s.asynqWorkers + s.clients}}
	a.client, a.redis = asynq.NewClient(a.opt), redis.NewClient(&redis.Options{Addr: addr})
	return a, nil
}

func (a *asynqSystem) about() string {
	fsync := "everysec"
	if a.s.strict {
		fsync = "always"
	}
	return fmt.Sprintf("Redis, appendonly yes, appendfsync %s; Concurrency %d, TaskCheckInterval %v", fsync, a.s.asynqWorkers, a.s.asynqCheck)
}

func (a *asynqSystem) reset(ctx context.Context) error { return a.redis.FlushAll(ctx).Err() }

func (a *asynqSystem) enqueuer(context.Context) (func(context.Context, int) (string, error), error) {
	return func(ctx context.Context, _ int) (string, error) {
		info, err := a.client.EnqueueContext(ctx, asynq.NewTask(asynqTask, nil))
		if err != nil {
			return "", err
		}
		return info.ID, nil
	}, nil
}

// work counts a job as finished when its handler returns, since Asynq does not report that the end is stored. It reports the last job when
// Redis has counted all of them.
func (a *asynqSystem) work(ctx context.Context, finished func(string)) (func() error, error) {
	var mu sync.Mutex
	returned, last := 0, make(chan string, 1)
	server := asynq.NewServer(a.opt, asynq.Config{
		Concurrency: a.s.asynqWorkers, TaskCheckInterval: a.s.asynqCheck, LogLevel: asynq.ErrorLevel, Logger: quiet{},
	})
	handler := func(_ context.Context, task *asynq.Task) error {
		mu.Lock()
		defer mu.Unlock()
		id := task.ResultWriter().TaskID()
		returned++
		if returned == a.s.n {
			last <- id
		} else {
			finished(id)
		}
		return nil
	}
	go func() {
		var id string
		select {
		case id = <-last:
		case <-ctx.Done():
			return
		}
		for ctx.Err() == nil && a.check(ctx, a.s.n) != nil {
			time.Sleep(time.Millisecond)
		}
		mu.Lock()
		defer mu.Unlock()
		finished(id)
	}()
	if err := server.Start(asynq.HandlerFunc(handler)); err != nil {
		return nil, err
	}
	return func() error { server.Shutdown(); return nil }, nil
}

// check reads Asynq's counter of the jobs that it has removed from the queue.
func (a *asynqSystem) check(ctx context.Context, n int) error {
	processed, err := a.redis.Get(ctx, "asynq:{default}:processed").Int()
	if err == nil && processed != n {
		err = fmt.Errorf("%d tasks are processed, not %d", processed, n)
	}
	return err
}

func (a *asynqSystem) serverCPU() (time.Duration, error) { return a.server.cpu() }

func (a *asynqSystem) close() error {
	return errors.Join(a.client.Close(), a.redis.Close(), a.server.stop())
}

// quiet discards Asynq's log lines about its start and stop.
type quiet struct{}

func (quiet) Debug(...any) {}
func (quiet) Info(...any)  {}
func (quiet) Warn(...any)  {}
func (quiet) Error(...any) {}
func (quiet) Fatal(...any) {}
