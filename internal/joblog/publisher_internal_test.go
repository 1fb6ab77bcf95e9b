package joblog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/hark-jobs/hark/internal/natstest"
	"github.com/hark-jobs/hark/internal/polltest"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

var testPublisher = &publisher{plainAck: `{"stream":"hark_log`}

func TestReadAnswer(t *testing.T) {
	unavailable := nats.Header{"Status": {"503"}}
	for _, c := range []struct {
		data   string
		header nats.Header
		want   ack
		err    error
	}{
		{data: `{"stream":"hark_log","seq":17}`, want: ack{seq: 17}},
		{data: `{"stream":"hark_log","seq":18446744073709551615}`, want: ack{seq: 1<<64 - 1}},
		{data: `{"stream":"hark_log","seq":17,"duplicate": true}`, want: ack{17, true}},
		{data: `{"stream":"hark_log", "domain":"hub", "seq":17}`, want: ack{seq: 17}},
		{header: unavailable, err: jetstream.ErrNoStreamResponse},
		{data: `{"seq":17}`, err: jetstream.ErrInvalidJSAck},
		{data: `{"stream":"hark_log","seq":}`, err: jetstream.ErrInvalidJSAck},
		{data: `{"stream":"hark_log","seq":1`, err: jetstream.ErrInvalidJSAck},
		{data: ``, err: jetstream.ErrInvalidJSAck},
	} {
		got := testPublisher.parseAck(&nats.Msg{Data: []byte(c.data), Header: c.header})
		if got.ack != c.want || !errors.Is(got.err, c.err) {
			t.Errorf("%s: %+v", c.data, got)
		}
	}
	refused := testPublisher.parseAck(&nats.Msg{Data: []byte(`{"error":{"code":400,"err_code":10071,"description":"wrong last sequence: 2"},"stream":"hark_log","seq":0}`)})
	if !isConflict(refused.err) {
		t.Errorf("%+v", refused)
	}
}

func FuzzReadAnswer(f *testing.F) {
	f.Add([]byte(`{"stream":"hark_log","seq":17}`))
	f.Add([]byte(`{"stream":"hark_log","seq":017}`))
	f.Add([]byte(`{"stream":"hark_log","seq":17,"duplicate": true}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		got := testPublisher.parseAck(&nats.Msg{Data: data})
		var said jetstream.PubAck
		if err := json.Unmarshal(data, &said); err == nil && got.err == nil && got.ack != (ack{said.Sequence, said.Duplicate}) {
			t.Errorf("%s: %+v", data, got)
		}
	})
}

// openPublisher returns a publisher on a server without a stream, and what makes the stream and removes it.
func openPublisher(t *testing.T) (_ *publisher, create func() (remove func())) {
	t.Helper()
	nc := natstest.Connect(t)
	p, err := newPublisher(nc, DefaultNamespace)
	if err != nil {
		t.Fatal(err)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return p, func() func() {
		config := jetstream.StreamConfig{Name: DefaultNamespace.LogStream(), Subjects: []string{DefaultNamespace.LogSubjects()}, Storage: jetstream.MemoryStorage}
		if _, err := js.CreateStream(t.Context(), config); err != nil {
			t.Fatal(err)
		}
		return func() {
			if err := js.DeleteStream(t.Context(), DefaultNamespace.LogStream()); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// writes returns how many were begun.
func (p *publisher) writes() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.number
}

func note() *nats.Msg {
	return &nats.Msg{Subject: DefaultNamespace.NotificationSubject("ana"), Data: []byte("{}")}
}

func TestPublishWaitsForTheStream(t *testing.T) {
	p, create := openPublisher(t)
	if _, err := p.publish(t.Context(), note()); !errors.Is(err, jetstream.ErrNoStreamResponse) {
		t.Errorf("without a stream: %v", err)
	}
	// A stream that comes back while a write is tried again takes it. When making it takes longer than the tries do,
	// that shows nothing, and is done once more.
	polltest.Nil(t, "a write is stored by being tried again", func() error {
		begun, stored := p.writes(), make(chan error, 1)
		go func() {
			_, err := p.publish(t.Context(), note())
			stored <- err
		}()
		for p.writes() == begun {
			runtime.Gosched()
		}
		remove := create()
		err := <-stored
		if err == nil && p.writes() > begun+1 {
			return nil
		}
		remove()
		return fmt.Errorf("the last one, after %d tries: %v", p.writes()-begun, err)
	})
}

// Writers that give up leave nothing behind, and get no other's answer.
func TestPublishGivesUp(t *testing.T) {
	p, create := openPublisher(t)
	create()
	silent, err := p.nc.SubscribeSync("silent")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Unsubscribe()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.publish(ctx, &nats.Msg{Subject: "silent"}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}

	seen := make(map[uint64]bool)
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 200 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				if i%2 == 0 { // about when the answer comes
					ctx, cancel = context.WithTimeout(t.Context(), time.Duration(i)*time.Microsecond)
				}
				a, err := p.publish(ctx, note())
				cancel()
				mu.Lock()
				if err == nil && seen[a.seq] {
					t.Errorf("two writes were told %d", a.seq)
				}
				seen[a.seq] = seen[a.seq] || err == nil
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if n := len(p.pending); n > 0 {
		t.Errorf("%d writes still wait", n)
	}
}

// What a cluster cannot take at the moment is tried again, by itself and among many. What nobody answers stops the rest.
func TestPublishAgain(t *testing.T) {
	p, _ := openPublisher(t)
	var asked int
	answers, err := p.nc.Subscribe("busy.*", func(m *nats.Msg) {
		answer := `{"stream":"hark_log","seq":17}`
		asked++
		if asked == 1 || asked == 4 {
			answer = `{"error":{"code":409,"err_code":10158,"description":"duplicate message id is in process"},"stream":"hark_log","seq":0}`
		}
		_ = m.Respond([]byte(answer))
	})
	if err != nil {
		t.Fatal(err)
	}
	defer answers.Unsubscribe()
	if a, err := p.publish(t.Context(), &nats.Msg{Subject: "busy.1"}); err != nil || a.seq != 17 {
		t.Errorf("%+v, %v", a, err)
	}
	for i, a := range p.publishAll(t.Context(), []*nats.Msg{{Subject: "busy.2"}, {Subject: "busy.3"}, {Subject: "busy.4"}}) {
		if a.err != nil || a.seq != 17 {
			t.Errorf("message %d: %+v", i, a)
		}
	}

	silent, err := p.nc.SubscribeSync("silent")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Unsubscribe()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	msgs := make([]*nats.Msg, 3*publishWindow)
	for i := range msgs {
		msgs[i] = &nats.Msg{Subject: "silent"}
	}
	for i, a := range p.publishAll(ctx, msgs) {
		if !errors.Is(a.err, context.DeadlineExceeded) {
			t.Fatalf("message %d: %+v", i, a)
		}
	}
	if n, _, err := silent.Pending(); n > publishWindow || err != nil {
		t.Errorf("%d messages were sent, %v", n, err)
	}
	if n := len(p.pending); n > 0 {
		t.Errorf("%d writes still wait", n)
	}
}

// lossy answers writes on subjects that begin with a token: the first of each subject not at all, and later ones with answer.
func lossy(t *testing.T, p *publisher, token, answer string) (seen func(subject string) int) {
	t.Helper()
	var mu sync.Mutex
	count := make(map[string]int)
	sub, err := p.nc.Subscribe(token+".*", func(m *nats.Msg) {
		mu.Lock()
		defer mu.Unlock()
		if count[m.Subject]++; count[m.Subject] > 1 {
			_ = m.Respond([]byte(answer))
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sub.Unsubscribe() })
	return func(subject string) int {
		mu.Lock()
		defer mu.Unlock()
		return count[subject]
	}
}

// A message whose ack does not arrive is sent again if the server stores it once at most, and only then.
func TestPublishSendsAgain(t *testing.T) {
	t.Parallel()
	p, _ := openPublisher(t)
	seen := lossy(t, p, "lossy", `{"stream":"hark_log","seq":17}`)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if a, err := p.publish(ctx, &nats.Msg{Subject: "lossy.id", Header: nats.Header{nats.MsgIdHdr: {"x"}}}); err != nil || a.seq != 17 {
		t.Errorf("with a message id: %+v, %v", a, err)
	}
	for i, a := range p.publishAll(ctx, []*nats.Msg{
		{Subject: "lossy.1", Header: nats.Header{nats.MsgIdHdr: {"1"}}}, {Subject: "lossy.2", Header: nats.Header{nats.MsgIdHdr: {"2"}}},
	}) {
		if a.err != nil || a.seq != 17 {
			t.Errorf("message %d: %+v", i, a)
		}
	}
	batch := []*nats.Msg{{Subject: "other.1", Header: make(nats.Header)}, {Subject: "lossy.last", Header: make(nats.Header)}}
	other, err := p.nc.SubscribeSync("other.*")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Unsubscribe()
	if a, err := p.publishTogether(ctx, batch...); err != nil || a.seq != 17 {
		t.Errorf("a batch: %+v, %v", a, err)
	}
	if n, _, err := other.Pending(); n != 2 || err != nil {
		t.Errorf("its first message was sent %d times, %v", n, err)
	}
	short, cancel := context.WithTimeout(t.Context(), firstTry+nextTry/2)
	defer cancel()
	if _, err := p.publish(short, &nats.Msg{Subject: "lossy.plain"}); !errors.Is(err, context.DeadlineExceeded) || seen("lossy.plain") != 1 {
		t.Errorf("without: %v, sent %d times", err, seen("lossy.plain"))
	}
}

// A conflict of a message that was sent again may be with the message itself: then it is stored.
func TestPublishConflictsWithItself(t *testing.T) {
	t.Parallel()
	p, _ := openPublisher(t)
	lossy(t, p, "lossy", `{"error":{"code":400,"err_code":10071,"description":"wrong last sequence: 5"},"stream":"hark_log","seq":0}`)
	for i, stored := range []ack{{seq: 5}, {}} {
		p.stored = func(context.Context, *nats.Msg) (ack, error) { return stored, nil }
		a, err := p.publish(t.Context(), &nats.Msg{Subject: fmt.Sprintf("lossy.%d", i), Header: expectLast(0)})
		if a != stored || isConflict(err) != (stored.seq == 0) {
			t.Errorf("stored as %+v: %+v, %v", stored, a, err)
		}
		a, err = p.publishTogether(t.Context(), &nats.Msg{Subject: "other", Header: expectLast(0)}, &nats.Msg{Subject: fmt.Sprintf("lossy.batch%d", i), Header: make(nats.Header)})
		if stored.seq > 0 && (err != nil || a.seq != stored.seq+1) || stored.seq == 0 && !isConflict(err) {
			t.Errorf("a batch, the first of which is stored as %+v: %+v, %v", stored, a, err)
		}
	}
}

// A read whose answer is lost is made again, until its context ends. Without a connection it fails after two tries.
func TestTries(t *testing.T) {
	t.Parallel()
	nc := natstest.Connect(t)
	calls := 0
	read := func(answered int) func(context.Context) (int, error) {
		calls = 0
		return func(ctx context.Context) (int, error) {
			if calls++; calls >= answered {
				return calls, nil
			}
			<-ctx.Done()
			return 0, ctx.Err()
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if n, err := tries(ctx, nc, read(2)); n != 2 || err != nil {
		t.Errorf("the second try: %d, %v", n, err)
	}
	short, cancel := context.WithTimeout(t.Context(), firstTry/2)
	defer cancel()
	if _, err := tries(short, nc, read(2)); !errors.Is(err, context.DeadlineExceeded) || calls != 1 {
		t.Errorf("its context ends: %v after %d calls", err, calls)
	}
	nc.Close()
	if _, err := tries(ctx, nc, read(10)); !errors.Is(err, nats.ErrDisconnected) || calls != 2 {
		t.Errorf("without a connection: %v after %d calls", err, calls)
	}
}

// A direct get that nobody answers, as with a replica that stands still, is made again.
func TestDirectGetIsMadeAgain(t *testing.T) {
	t.Parallel()
	nc := natstest.Connect(t)
	var asked int
	sub, err := nc.Subscribe("FAKE.DIRECT.GET.S", func(m *nats.Msg) {
		if asked++; asked == 1 {
			return
		}
		for _, header := range []nats.Header{
			{jetstream.SequenceHeader: {"3"}, jetstream.SubjectHeader: {"s"}, jetstream.LastSequenceHeader: {"0"}},
			{"Status": {"204"}, "Nats-Num-Pending": {"7"}},
		} {
			_ = m.RespondMsg(&nats.Msg{Header: header})
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Unsubscribe()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	q := &Store{nc: nc, api: "FAKE."}
	var got []uint64
	pending, err := q.directAnswered(ctx, nc, "S", directRequest{Batch: 1}, func(m *storedMsg) error {
		got = append(got, m.Seq)
		return nil
	})
	if err != nil || pending != 7 || len(got) != 1 || got[0] != 3 {
		t.Errorf("got %v, %d pending, %v", got, pending, err)
	}
}
