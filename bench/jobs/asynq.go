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

// asynqSystem is Asynq on a Redis of its own.
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

// work takes a job for finished when its handler returns: Asynq tells nobody that the end is stored. So that nobody is
// told too early of the last one, it is held back until Redis has counted all of them.
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
		if returned++; returned == a.s.n {
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

// check reads the counter that Asynq keeps with each job that it takes off the queue.
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

// quiet drops what Asynq says about its start and stop.
type quiet struct{}

func (quiet) Debug(...any) {}
func (quiet) Info(...any)  {}
func (quiet) Warn(...any)  {}
func (quiet) Error(...any) {}
func (quiet) Fatal(...any) {}
