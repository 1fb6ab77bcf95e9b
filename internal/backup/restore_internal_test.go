package backup

import (
	"bytes"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/s2"
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

// The server gives a restore up when it has stored no chunk for five seconds. So no chunk holds many messages, however well they
// could be compressed, and one is sent also while a backup has only messages that are not restored.
func TestChunksKeepARestoreAlive(t *testing.T) {
	t.Parallel()
	nc := natstest.Connect(t)
	var mu sync.Mutex
	var chunks [][]byte
	_, err := nc.Subscribe("restore", func(m *nats.Msg) {
		mu.Lock()
		defer mu.Unlock()
		chunks = append(chunks, bytes.Clone(m.Data))
		m.Respond(nil)
	})
	if err != nil {
		t.Fatal(err)
	}
	received := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(chunks)
	}
	u := uploader{ctx: t.Context(), nc: nc, subject: "restore", last: time.Now(), logged: time.Now()}
	w := u.frames()
	text := bytes.Repeat([]byte("x"), 10*chunkSize)
	if _, err := w.Write(text); err != nil {
		t.Fatal(err)
	}
	sent := received()
	if sent < 9 {
		t.Errorf("%d bytes are in %d chunks, want at least 9", len(text), sent)
	}
	if err := u.stayAlive(w); err != nil || received() != sent {
		t.Errorf("with a chunk a moment ago another one is sent: %v", err)
	}
	u.last = time.Now().Add(-maxSilence)
	if err := u.stayAlive(w); err != nil || received() != sent+1 {
		t.Errorf("%d chunks are sent after the silence, want 1: %v", received()-sent, err)
	}
	if _, err := w.Write([]byte("end")); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := u.flush(); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	got, err := io.ReadAll(s2.NewReader(bytes.NewReader(bytes.Join(chunks, nil))))
	if err != nil || !bytes.Equal(got, append(text, "end"...)) {
		t.Errorf("the server reads %d bytes, want %d: %v", len(got), len(text)+3, err)
	}
}
