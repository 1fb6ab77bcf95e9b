package natstest

import (
	"maps"
	"slices"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Reads counts the messages that a server returns for direct gets from a stream.
type Reads struct {
	t   testing.TB
	nc  *nats.Conn
	all *nats.Subscription
	get string // subject of the requests
}

// WatchReads begins to count, over a connection to the server that is read from. With another server of its cluster, an answer may
// be counted late.
func WatchReads(t testing.TB, nc *nats.Conn, stream string) *Reads {
	t.Helper()
	all, err := nc.SubscribeSync(">")
	if err == nil {
		err = all.SetPendingLimits(-1, -1)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = all.Unsubscribe() })
	r := &Reads{t: t, nc: nc, all: all, get: "$JS.API.DIRECT.GET." + stream}
	r.Next()
	return r
}

// Next returns how many messages were returned for the requests since the last call. Equal requests count once: a request is made again
// if its answer is late, and then both answers may come.
func (r *Reads) Next() (messages int) {
	r.t.Helper()
	ctx := Context(r.t)
	if err := r.nc.FlushWithContext(ctx); err != nil { // the server has sent all that came before
		r.t.Fatal(err)
	}
	requests := map[string]string{}         // by the subject of the answer
	returned := map[string]map[string]int{} // by request, and by the subject of the answer
	for {
		waiting, _, err := r.all.Pending()
		if err != nil {
			r.t.Fatal(err)
		}
		if waiting == 0 {
			break
		}
		m, err := r.all.NextMsgWithContext(ctx)
		if err != nil {
			r.t.Fatal(err)
		}
		if m.Subject == r.get {
			requests[m.Reply] = string(m.Data)
			continue
		}
		request, ok := requests[m.Subject]
		if !ok || m.Header.Get(jetstream.SequenceHeader) == "" { // another message, or the end of an answer
			continue
		}
		if returned[request] == nil {
			returned[request] = map[string]int{}
		}
		returned[request][m.Subject]++
	}
	for _, answers := range returned {
		messages += slices.Max(slices.Collect(maps.Values(answers)))
	}
	return messages
}
