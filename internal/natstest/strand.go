package natstest

import (
	"context"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Strand makes a server's replica of a stream lag, for about two seconds per write: the server leads all streams, is cut off, and
// takes messages in vain. Another server becomes the leader, and stores as many. Once it is in contact with the others again,
// nats-server (2.15.3) gives up one of the messages in vain at a time. Meanwhile consumers that the server leads deliver nothing
// of what is newer, and say that there is nothing. Messages have the subject and the data.
func (s *Servers) Strand(i, writes int, subject string, data []byte) {
	s.t.Helper()
	s.Lead(i)
	cut, other := s.ConnectTo(s.t, i), s.ConnectTo(s.t, (i+1)%len(s.servers))
	defer cut.Close()
	defer other.Close()
	s.Cut(i)
	for range writes {
		if err := cut.Publish(subject, data); err != nil {
			s.t.Fatal(err)
		}
		if err := cut.Flush(); err != nil {
			s.t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond) // so that each is an entry of its own in the server's Raft log
	}
	js, err := jetstream.New(other)
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), clusterTimeout)
	defer cancel()
	for n := 0; n <= writes; {
		try, cancel := context.WithTimeout(ctx, time.Second)
		if _, err = js.Publish(try, subject, data); err == nil {
			n++
		}
		cancel()
		if ctx.Err() != nil {
			s.t.Fatalf("natstest: no server stores %s without server %d: %v", subject, i, err)
		}
	}
	s.Heal(i)
}
