package sse

import (
	"fmt"
	"testing"
	"time"

	"github.com/hark-jobs/hark/jobs"
	"golang.org/x/sys/unix"
)

// BenchmarkBroadcast writes a notification to sockets that take it: a broadcast to one stream of each of 5,000 users, and the
// notification of a user with one stream. cpu-ns/stream is the CPU time of the process for each stream; it varies less than the time
// does on a machine with other work.
func BenchmarkBroadcast(b *testing.B) {
	for _, users := range []int{5000, 1} {
		b.Run(fmt.Sprint(users), func(b *testing.B) { benchmarkBroadcast(b, users) })
	}
}

func benchmarkBroadcast(b *testing.B, users int) {
	h := &Hub{users: make(map[string]*userStreams), o: Options{Backlog: maxEvent, TotalBacklog: 1 << 30, SubscribeAll: true}}
	const epoch = 1_790_000_000_000
	h.epoch.Store(epoch)
	sources := h.newSources(1)
	h.from.Store(&sources)
	src := sources[0]
	peers := make([]int, users)
	for i := range peers {
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			b.Fatal(err)
		}
		both := &struct {
			stream stream
			conn   socketConn
		}{}
		both.stream = stream{hub: h, conn: &both.conn, at: jobs.Position{Epoch: epoch, Own: 1, All: 1}}
		both.conn = socketConn{stream: &both.stream, fd: int32(pair[0])}
		us := &userStreams{token: fmt.Sprint(i), oldest: &both.stream}
		both.stream.user, h.users[us.token], peers[i] = us, us, pair[1]
		b.Cleanup(func() { unix.Close(pair[0]); unix.Close(pair[1]) })
	}
	stored := []byte(`{"key":"sale-1","type":"sale.begins","title":"The sale begins","body":"Everything must go, from eight in the morning on, in every shop.","link":"/sale","data":{"n":4711,"until":"2026-12-31"},"created_at":"2026-01-31T12:00:00Z"}`)
	buf := make([]byte, 1<<16)
	var cpu time.Duration
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		began := cpuTime(b)
		seq := uint64(5_000_000 + i)
		n := liveNotification{seq: seq, broadcast: true, frame: encodeNotification(jobs.NotificationID{Epoch: epoch, Seq: seq}, stored)}
		src.broadcasts.pushLocked(h, src, n)
		for len(src.broadcasts.queue) > 0 {
			src.broadcasts.serveChunkLocked(h, src)
		}
		cpu += cpuTime(b) - began
		if i%16 == 15 { // before the sockets are full
			b.StopTimer()
			for _, fd := range peers {
				for {
					if n, err := unix.Read(fd, buf); n <= 0 || err != nil {
						break
					}
				}
			}
			b.StartTimer()
		}
	}
	b.ReportMetric(float64(cpu)/float64(b.N)/float64(users), "cpu-ns/stream")
	for _, us := range h.users {
		if us.oldest.hasEnded() || us.oldest.catchUp != nil {
			b.Fatal("a stream has not taken all")
		}
	}
}

// cpuTime returns the CPU time of this process.
func cpuTime(b *testing.B) time.Duration {
	var used unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
