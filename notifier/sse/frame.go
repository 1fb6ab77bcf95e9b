package sse

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/hark-jobs/hark/jobs"
)

// keepalive is a comment, which readers drop (WHATWG HTML, section 9.2.6). It keeps proxies from closing an
// idle connection and finds out peers that are gone.
var keepalive = []byte(":\n\n")

// frame writes one event in the event stream format (WHATWG HTML, section 9.2.5). Data is JSON as
// encoding/json writes it, which has no line breaks; id may be empty.
func frame(event, id string, data []byte) []byte {
	b := make([]byte, 0, len(event)+len(id)+len(data)+24)
	b = append(append(b, "event: "...), event...)
	if id != "" {
		b = append(append(b, "\nid: "...), id...)
	}
	b = append(append(b, "\ndata: "...), data...)
	return append(b, "\n\n"...)
}

func jsonFrame(event, id string, v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("sse: event %s cannot be encoded: %v", event, err)) // only ever structs of this module
	}
	return frame(event, id, data)
}

// retry tells the reader how long to wait before it comes back.
func retry(d time.Duration) []byte {
	return []byte("retry: " + strconv.FormatInt(d.Milliseconds(), 10) + "\n\n")
}

// noteFrame makes the frame of a stored notification. The stored JSON gets its id and status at its end,
// where they win over any it may bring, and is not taken apart; nil means that it is no JSON object with
// anything in it, and nobody should be bothered with it. A link that no browser may follow is left out. The event's id, from which the reader resumes, is
// the notification's, but never less than what was written before.
func noteFrame(id jobs.EventID, before uint64, stored []byte) []byte {
	stored = safeLinks(oneLine(stored))
	body, ok := bytes.CutSuffix(stored, []byte("}"))
	if !ok || len(bytes.TrimLeft(body, " \t")) < 2 { // an array, a string, or {}
		return nil
	}
	text := id.String()
	data := make([]byte, 0, len(stored)+len(text)+32)
	data = append(append(data, body...), `,"id":"`...)
	data = append(append(data, text...), `","status":"unread"}`...)
	id.Seq = max(id.Seq, before)
	return frame("notification", id.String(), data)
}

// oneLine returns JSON that stands in one line, or nil for what is no JSON. Only what somebody else than
// hark has stored is ever compacted.
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

// news is a frame that is no notification. A later one with the same key stands for an earlier one.
type news struct {
	key   string // what it is the latest word about, if anything
	seq   uint64 // the later, the greater
	frame []byte // nil if what was heard is malformed
}

// inboxFrame makes the frame of a change of an inbox.
func inboxFrame(data []byte) news {
	if data = oneLine(data); data == nil {
		return news{}
	}
	return news{frame: frame("inbox", "", data)}
}

// jobFrame makes the frame of a job from the message that was just stored about it.
func jobFrame(topic jobs.Topic, seq uint64, stored []byte) news {
	var job jobs.Job
	if topic == jobs.TopicJob {
		var order jobs.Order
		if json.Unmarshal(stored, &order) != nil {
			return news{}
		}
		job = order.Job()
	} else if json.Unmarshal(stored, &job) != nil {
		return news{}
	}
	if job.ID == "" {
		return news{}
	}
	job.Revision = seq
	return news{job.ID, seq, jsonFrame("job", "", fitting(job.Public()))}
}

// maxResult and maxJobText are how many bytes of its result, and of its texts, an event of a job has at most: a handler may
// leave more than a stream may owe its reader.
const (
	maxResult  = 32 << 10
	maxJobText = 2 << 10
)

// jobData is a job as its event has it.
type jobData struct {
	jobs.Job
	ResultOmitted bool `json:"result_omitted,omitempty"`
}

// fitting returns the job without a result that is too large, and with texts that are not.
func fitting(job jobs.Job) jobData {
	d := jobData{Job: job}
	if len(job.Result) > maxResult {
		d.Result, d.ResultOmitted = nil, true
	}
	d.Progress.Message = shortened(job.Progress.Message)
	if job.Error != nil && len(job.Error.Message) > maxJobText {
		d.Error = &jobs.Error{Code: job.Error.Code, Message: shortened(job.Error.Message)}
	}
	return d
}

// shortened returns a text of at most maxJobText bytes, and no half character.
func shortened(text string) string {
	if len(text) <= maxJobText {
		return text
	}
	n := maxJobText - len("…")
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n] + "…"
}

// The data of the events that only a stream has.
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

// bye is the last frame of a stream: when to come back, and why it ends.
func bye(code, message string, after time.Duration) []byte {
	return append(retry(after), jsonFrame("bye", "", byeData{code, message})...)
}
