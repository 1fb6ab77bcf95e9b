package worker

import (
	"context"
	"log/slog"
	"time"
)

// stalledAfter is how long a job may wait at a consumer while a worker waits there, too. A consumer delivers within milliseconds.
const stalledAfter = 3 * time.Second

// checkDelivery moves consumers that deliver nothing although there are jobs. The server that leads a consumer delivers from its
// own replica of the log, and that may lag for minutes: after the routes of a cluster were cut, nats-server (2.15.3) takes about
// two seconds for each write that the former leader had taken in vain. Meanwhile the consumer says that it has no jobs.
func (f *fetcher) checkDelivery(ctx context.Context, log *slog.Logger) {
	if !f.worker.store.CanLag() {
		return
	}
	for i := range f.worker.store.Streams() {
		f.checkDeliveryOf(ctx, i, log)
	}
}

func (f *fetcher) checkDeliveryOf(ctx context.Context, stream int, log *slog.Logger) {
	ctx, cancel := context.WithTimeout(ctx, stalledAfter+leaseRefresh)
	defer cancel()
	seq := f.undelivered(ctx, stream)
	if seq == 0 {
		return
	}
	select {
	case <-ctx.Done():
		return
	case <-time.After(stalledAfter):
	}
	if f.undelivered(ctx, stream) != seq {
		return
	}
	log.Warn("a job of the log is not delivered although this worker waits for jobs; moving the consumer to the NATS server that leads the log",
		"stream", stream, "seq", seq)
	if err := f.worker.store.MoveWorkerConsumer(ctx, stream, f.handler.kind.Name); err != nil {
		log.Warn("moving the consumer failed", "stream", stream, "err", err)
	}
}

// undelivered returns the sequence of the first job that waits although this worker could start it, or 0.
func (f *fetcher) undelivered(ctx context.Context, stream int) uint64 {
	if f.free.Load() == 0 {
		return 0
	}
	seq, err := f.worker.store.Undelivered(ctx, stream, f.handler.kind.Name)
	if err != nil {
		return 0 // refreshLease and pull see the same error
	}
	return seq
}
