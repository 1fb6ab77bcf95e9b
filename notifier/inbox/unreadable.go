package inbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"

	"github.com/hark-jobs/hark/internal/joblog"
	"github.com/hark-jobs/hark/jobs"
)

var errStatus = errors.New("inbox: a message without a body whose header has a status")

// skipUnreadable skips the next message, and returns the position after it, if the NATS client treats the message as a status of
// the server: it has no body, and a Status in its header. The reader never gets such a message. If the next message is another
// one, skipUnreadable returns the position unchanged. It blocks for a round trip.
func (f *Ingester) skipUnreadable(ctx context.Context, epoch jobs.Epoch, at uint64) (uint64, error) {
	next, err := f.nextOnLeader(ctx, at)
	if err != nil || len(next.Data) > 0 || len(next.Header) == 0 {
		return at, err
	}
	header, err := nats.DecodeHeadersMsg(next.Header)
	if err != nil || header.Get("Status") == "" {
		return at, err
	}
	f.o.Skipped(next.Subject, next.Seq, errStatus)
	return next.Seq, f.o.Store.ingest(ctx, batch{stream: f.stream, epoch: epoch, from: at, to: next.Seq}, f.name, leaseTime)
}

// storedMessage is a message as the leader of a stream returns it in the body of a response.
type storedMessage struct {
	Subject string `json:"subject"`
	Seq     uint64 `json:"seq"`
	Header  []byte `json:"hdrs"`
	Data    []byte `json:"data"`
}

// nextOnLeader returns the next notification after a sequence, from the leader of the stream. Its sequence is 0 if there is none.
func (f *Ingester) nextOnLeader(ctx context.Context, at uint64) (storedMessage, error) {
	ctx, cancel := context.WithTimeout(ctx, leaseTick)
	defer cancel()
	body, err := json.Marshal(map[string]any{"seq": at + 1, "next_by_subj": f.o.Namespace.NotificationSubjects()})
	if err != nil {
		return storedMessage{}, err
	}
	m, err := f.o.JetStream.Conn().RequestWithContext(ctx, joblog.APISubject(f.o.JetStream, "STREAM.MSG.GET."+f.streamName()), body)
	if err != nil {
		return storedMessage{}, fmt.Errorf("%w: read the next message: %w", errStream, err)
	}
	var answer struct {
		Message storedMessage `json:"message"` // absent with an error, such as no message found
	}
	if err := json.Unmarshal(m.Data, &answer); err != nil {
		return storedMessage{}, fmt.Errorf("%w: read the next message: %w", errStream, err)
	}
	return answer.Message, nil
}
