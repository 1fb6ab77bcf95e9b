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
	subject, seq, header, err := f.nextWithoutBody(ctx, at)
	if err != nil || seq == 0 || header.Get("Status") == "" {
		return at, err
	}
	f.o.Skipped(subject, seq, errStatus)
	return seq, f.o.Store.ingest(ctx, batch{stream: f.stream, epoch: epoch, from: at, to: seq}, f.name, leaseTime)
}

// nextWithoutBody returns the next notification after a sequence, if it has no body; else seq is 0. It uses the API that returns
// a stored message in the body of the response.
func (f *Ingester) nextWithoutBody(ctx context.Context, at uint64) (subject string, seq uint64, header nats.Header, err error) {
	ctx, cancel := context.WithTimeout(ctx, leaseTick)
	defer cancel()
	body, err := json.Marshal(map[string]any{"seq": at + 1, "next_by_subj": f.o.Namespace.NotificationSubjects()})
	if err != nil {
		return "", 0, nil, err
	}
	m, err := f.o.JetStream.Conn().RequestWithContext(ctx, joblog.APISubject(f.o.JetStream, "STREAM.MSG.GET."+f.streamName()), body)
	if err != nil {
		return "", 0, nil, fmt.Errorf("%w: read the next message: %w", errStream, err)
	}
	var answer struct {
		Message struct {
			Subject string `json:"subject"`
			Seq     uint64 `json:"seq"`
			Header  []byte `json:"hdrs"`
			Data    []byte `json:"data"`
		} `json:"message"` // absent with an error, such as no message found
	}
	if err := json.Unmarshal(m.Data, &answer); err != nil {
		return "", 0, nil, fmt.Errorf("%w: read the next message: %w", errStream, err)
	}
	if len(answer.Message.Data) > 0 || len(answer.Message.Header) == 0 {
		return "", 0, nil, nil
	}
	header, err = nats.DecodeHeadersMsg(answer.Message.Header)
	return answer.Message.Subject, answer.Message.Seq, header, err
}
