package sse

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/hark-jobs/hark/internal/joblog"
	"github.com/hark-jobs/hark/jobs"
)

// heartbeat is an event without an id. A page sees by it that its stream is alive: EventSource does not expose
// comments, and drops an event without a listener (WHATWG HTML, section 9.2.6). It also keeps proxies from closing
// an idle connection, and detects peers that are gone. All streams share it.
var heartbeat = frame("heartbeat", []byte("{}"))

// frame encodes one event in the event stream format (WHATWG HTML, section 9.2.5), without an id. data is JSON without
// line breaks, as encoding/json writes it.
func frame(event string, data []byte) []byte {
	b := make([]byte, 0, len(event)+len(data)+20)
	b = append(append(b, "event: "...), event...)
	b = append(append(b, "\ndata: "...), data...)
	return append(b, "\n\n"...)
}

// maxIDLine is the greatest length of the result of idLine: two names, three numbers of 64 bits in base 36 and a line break.
const maxIDLine = len("id: ") + 3*13 + len("--\n")

// idLine appends the first line of an event, with its id, to b. Streams share the frame of an event, and each has its own
// position. So the id comes first, and a connection writes it before the frame. idLine appends nothing for the zero position.
func idLine(b []byte, at jobs.Position) []byte {
	if at == (jobs.Position{}) {
		return b
	}
	return append(at.Append(append(b, "id: "...)), '\n')
}

// jsonFrame encodes one event with v as its data.
func jsonFrame(event string, v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("sse: event %s cannot be encoded: %v", event, err)) // v is always a struct of this package
	}
	return frame(event, data)
}

// withRetry returns a frame whose event also has the reader's reconnection time. It is a line of the event, and not a block of
// its own before it: the id line, which is written before the frame, would be in that block, and a parser that reads each block
// by itself would miss it.
func withRetry(d time.Duration, frame []byte) []byte {
	return append([]byte("retry: "+strconv.FormatInt(d.Milliseconds(), 10)+"\n"), frame...)
}

// encodeNotification returns the frame of a stored notification, or nil if it is not a JSON object with at least
// one member. It appends id and status to the stored JSON without parsing it; they replace members of the same
// names, since the last one counts. A link that [jobs.SafeLink] refuses is left out.
func encodeNotification(id jobs.NotificationID, stored []byte) []byte {
	stored = dropUnsafeLink(oneLine(stored))
	body, ok := bytes.CutSuffix(stored, []byte("}"))
	if !ok || len(bytes.TrimLeft(body, " \t")) < 2 { // an array, a string, or {}
		return nil
	}
	text := id.String()
	data := make([]byte, 0, len(stored)+len(text)+32)
	data = append(append(data, body...), `,"id":"`...)
	data = append(append(data, text...), `","status":"unread"}`...)
	return frame("notification", data)
}

// oneLine returns JSON on one line, or nil if stored is not valid JSON. JSON that hark has stored is returned as
// it is.
func oneLine(stored []byte) []byte {
	if !json.Valid(stored) {
		return nil
	}
	if n := len(stored); !bytes.ContainsAny(stored, "\r\n") && stored[n-1] == '}' && n > 1 && stored[n-2] > ' ' {
		return stored
	}
	var b bytes.Buffer
	if json.Compact(&b, stored) != nil {
		return nil
	}
	return b.Bytes()
}

// update is a frame that is not a notification. A later update replaces an earlier one with the same key.
type update struct {
	key   string // what the update is about; empty if it replaces nothing
	seq   uint64 // greater for a later update
	frame []byte // nil if the message is malformed
}

// encodeInboxChange returns the update for a change of an inbox.
func encodeInboxChange(data []byte) update {
	data = oneLine(data)
	if data == nil {
		return update{}
	}
	return update{frame: frame("inbox", data)}
}

// encodeJob returns the update for a stored message about a job.
func encodeJob(subject string, seq uint64, stored []byte) (update, error) {
	var job jobs.Job
	if _, class, _ := joblog.ParseSubject(subject); class == joblog.ClassJob {
		order, err := joblog.DecodeSpec(subject, stored)
		if err != nil {
			return update{}, err
		}
		job = order.Job()
	} else {
		var err error
		if job, err = joblog.DecodeState(subject, stored); err != nil {
			return update{}, err
		}
	}
	job.Revision = seq
	return update{job.ID, seq, jsonFrame("job", limitJob(job.Public()))}, nil
}

// maxResult and maxJobText limit the bytes of the result and of each text in a job event: a handler may leave more than the
// backlog of a stream.
const (
	maxResult  = 32 << 10
	maxJobText = 2 << 10
)

// jobData is the data of a job event.
type jobData struct {
	jobs.Job
	ResultOmitted bool `json:"result_omitted,omitempty"`
}

// limitJob leaves out a result that is too large, and truncates long texts.
func limitJob(job jobs.Job) jobData {
	d := jobData{Job: job}
	if len(job.Result) > maxResult {
		d.Result, d.ResultOmitted = nil, true
	}
	d.Progress.Message = truncateText(job.Progress.Message)
	if job.Error != nil && len(job.Error.Message) > maxJobText {
		d.Error = &jobs.Error{Code: job.Error.Code, Message: truncateText(job.Error.Message)}
	}
	return d
}

// truncateText returns a text of at most maxJobText bytes of valid UTF-8.
func truncateText(text string) string {
	if len(text) <= maxJobText {
		return text
	}
	n := maxJobText - len("…")
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n] + "…"
}

// The data of the events that are not stored.
type (
	helloData struct {
		User       string    `json:"user"`
		ID         string    `json:"id"`
		ServerTime time.Time `json:"server_time"`
	}
	resetData struct {
		Reason string `json:"reason"`
		ID     string `json:"id"`
	}
	authData struct {
		ExpiresAt time.Time `json:"expires_at"`
	}
	byeData struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	}
)

// byeFrame encodes the last event of a stream: the reconnection time, and the reason of the end.
func byeFrame(code, message string, after time.Duration) []byte {
	return withRetry(after, jsonFrame("bye", byeData{code, message}))
}

// Event is one event in an [Answer].
type Event struct {
	Event string `json:"event"`
	// ID is the position after this event, if it moves it.
	ID string `json:"id,omitempty"`
	// Retry is the reconnection time after a bye event, in milliseconds.
	Retry int64           `json:"retry,omitempty"`
	Data  json.RawMessage `json:"data"`
}

// parseFrame decodes a frame that this package has encoded, and that has no id.
func parseFrame(made []byte) (e Event) {
	for line := range bytes.SplitSeq(made, []byte{'\n'}) {
		switch name, value, _ := bytes.Cut(line, []byte(": ")); string(name) {
		case "event":
			e.Event = string(value)
		case "retry":
			e.Retry, _ = strconv.ParseInt(string(value), 10, 64)
		case "data":
			e.Data = value
		}
	}
	return e
}
