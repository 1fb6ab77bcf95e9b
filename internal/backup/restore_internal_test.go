package backup

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hark-jobs/hark/internal/natstest"
	"github.com/hark-jobs/hark/internal/polltest"
)

// A chunk that nobody listens for yet is sent again: on a cluster a server hears late that another one listens.
func TestChunkThatNobodyListensForYet(t *testing.T) {
	t.Parallel()
	nc := natstest.Connect(t)
	received := make(chan string, 10)
	u := uploader{ctx: t.Context(), nc: nc, subject: "restore", logged: time.Now()}
	sent := make(chan error, 1)
	go func() { sent <- u.send([]byte("chunk")) }()
	// The server gets the subscription after the first try, since both are sent on one connection.
	polltest.Until(t, "the chunk is sent for the first time", func() bool { return nc.Stats().OutMsgs > 0 })
	_, err := nc.Subscribe("restore", func(m *nats.Msg) {
		received <- string(m.Data)
		m.Respond(nil)
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	if got := <-received; got != "chunk" || len(received) > 0 || u.sent != 5 {
		t.Errorf("received %q and %d more; %d bytes count as sent", got, len(received), u.sent)
	}
}
