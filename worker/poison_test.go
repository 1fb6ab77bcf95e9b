package worker_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/hark-jobs/hark/internal/joblog"
	"github.com/hark-jobs/hark/internal/natstest"
	"github.com/hark-jobs/hark/internal/polltest"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/worker"
	"github.com/nats-io/nats.go"
)

// store writes a message as any program may that has access to NATS.
func (b *bench) store(subject, body string) {
	b.Helper()
	if _, err := b.queue.JetStream().Publish(natstest.Context(b), subject, []byte(body)); err != nil {
		b.Fatal(err)
	}
}

// A job request that cannot be read is delivered once and never again, and keeps no other job of its user waiting.
func TestPoisonIsDeliveredOnce(t *testing.T) {
	b := newBench(t)
	ran := make(chan string, 10)
	handler := worker.Handle(jobs.Define[none](jobs.Kind{Name: "k"}), func(_ context.Context, job *worker.Job, _ none) (jobs.Result, error) {
		ran <- job.User + " " + job.ID
		return jobs.Result{}, nil
	}, worker.Concurrency(1))
	const id = "01JD3Q00000000000000000000"
	for _, body := range []string{"x", `{"id":"` + id + `","kind":"k","user":"bob","run":1,"max_attempts":1}`} {
		b.store(defaultNS.SpecSubject("ana", "k", id), body)
	}
	status := &nats.Msg{Subject: defaultNS.SpecSubject("ana", "k", id), Header: nats.Header{"Status": {"409"}}}
	if _, err := b.queue.JetStream().PublishMsg(natstest.Context(t), status); err != nil {
		t.Fatal(err)
	}
	b.store("hark.log.00.ana.job.k."+id, `{"id":"`+id+`","kind":"k","user":"ana","run":1,"max_attempts":1}`) // in the shard of others
	b.store("hark.log."+joblog.Shard("a=62")+".a=62.job.k."+id, `{"id":"`+id+`","kind":"k","user":"ab","run":1,"max_attempts":1}`)
	b.start(worker.Options{Handlers: []worker.Handler{handler}})
	job := b.enqueue(jobs.Request{Kind: "k"})
	b.await(job.ID, in(jobs.Succeeded))
	if got := <-ran; got != "ana "+job.ID || len(ran) > 0 {
		t.Errorf("%s ran, and %d more", got, len(ran))
	}
	if n := b.queue.Skipped()[joblog.SkippedJob]; n != 5 {
		t.Errorf("%d were skipped", n)
	}
	consumer, err := b.queue.JetStream().Consumer(natstest.Context(t), defaultNS.LogStream(), defaultNS.WorkerConsumer("k"))
	if err != nil {
		t.Fatal(err)
	}
	polltest.Nil(t, "no message is delivered again", func() error {
		info, err := consumer.Info(natstest.Context(t))
		if err != nil {
			t.Fatal(err)
		}
		if info.NumAckPending != 0 || info.NumPending != 0 {
			return fmt.Errorf("%d are unacked, %d pending", info.NumAckPending, info.NumPending)
		}
		return nil
	})
}

// A message on the subjects of a running job that cannot be read does not take its lease away, and does not keep it from
// ending.
func TestPoisonOnARunningJob(t *testing.T) {
	b := newBench(t)
	begun, poisoned, release := make(chan struct{}, 10), make(chan struct{}), make(chan struct{})
	b.start(worker.Options{Handlers: []worker.Handler{worker.Handle(jobs.Define[none](jobs.Kind{Name: "k"}), func(ctx context.Context, job *worker.Job, _ none) (jobs.Result, error) {
		begun <- struct{}{}
		for _, wait := range []chan struct{}{poisoned, release} {
			select {
			case <-wait:
				job.Progress(1, 1, "written over it")
			case <-ctx.Done():
				return jobs.Result{}, context.Cause(ctx)
			}
		}
		return jobs.Result{}, nil
	})}})
	job := b.enqueue(jobs.Request{Kind: "k"})
	<-begun
	for _, body := range []string{"x", `{"id":"` + job.ID + `","kind":"k","user":"bob","state":"succeeded","run":1}`} {
		b.store(defaultNS.StateSubject("ana", job.ID), body)
		b.store(defaultNS.SpecSubject("ana", "k", job.ID), body)
		b.store(defaultNS.SpecSubject("ana", "other", job.ID), body)
	}
	close(poisoned)
	b.await(job.ID, func(j jobs.Job) bool { return j.Progress.Done == 1 })
	close(release)
	ended := b.await(job.ID, in(jobs.Succeeded))
	if ended.Attempt != 1 || ended.Lost != 0 || len(begun) != 0 {
		t.Errorf("%+v, begun %d times more", ended, len(begun))
	}
	b.told("job.succeeded")
}
