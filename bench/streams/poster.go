package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// poster posts notifications over one persistent connection. It is for one goroutine.
type poster struct {
	server *server
	ledger *ledger
	conn   net.Conn
	in     *bufio.Reader
	out    []byte
	body   []byte
}

func newPoster(s *server, l *ledger) *poster { return &poster{server: s, ledger: l} }

// The types of the posted notifications. The readers count broadcasts separately.
const (
	typeNote     = "bench.note"
	typeEveryone = "bench.everyone"
)

// post posts a notification with a number of padding bytes, and records it in the ledger.
func (p *poster) post(to int32, pad int) (n int32, err error) {
	if n, err = p.ledger.draw(to); err != nil {
		return 0, err
	}
	p.request(p.note(p.body[:0], n, pad, false))
	p.ledger.notes[n].at = time.Now().UnixNano()
	return n, p.exchange(n)
}

// postAll posts several notifications with one request.
func (p *poster) postAll(to []int32) error {
	notes := make([]int32, len(to))
	body := append(p.body[:0], `{"notifications":[`...)
	for i := range to {
		n, err := p.ledger.draw(to[i])
		if err != nil {
			return err
		}
		notes[i] = n
		if i > 0 {
			body = append(body, ',')
		}
		body = p.note(body, n, 0, false)
	}
	p.request(append(body, "]}"...))
	for _, n := range notes {
		p.ledger.notes[n].at = time.Now().UnixNano()
	}
	return p.exchange(notes...)
}

// insist posts a notification, with a key, until it is accepted.
func (p *poster) insist(ctx context.Context, to int32) error {
	n, err := p.ledger.draw(to)
	if err != nil {
		return err
	}
	p.request(p.note(p.body[:0], n, 0, true))
	p.ledger.notes[n].at = time.Now().UnixNano()
	for {
		err := p.exchange(n)
		if err == nil {
			return nil
		}
		if refused := new(refusal); errors.As(err, &refused) && refused.status < 500 {
			return err
		}
		p.close()
		select {
		case <-ctx.Done():
			return err
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func (p *poster) close() {
	if p.conn != nil {
		p.conn.Close()
		p.conn = nil
	}
}

// refusal is a response that is not a success.
type refusal struct {
	status int
	body   string
}

func (r *refusal) Error() string { return fmt.Sprintf("answered %d: %s", r.status, r.body) }

// note adds the JSON of a notification to b.
func (p *poster) note(b []byte, n int32, pad int, key bool) []byte {
	b = append(b, '{')
	if to := p.ledger.notes[n].to; to == everyone {
		b = append(b, `"everyone":true,"type":"`+typeEveryone+`"`...)
	} else {
		b = fmt.Appendf(b, `"user":%q,"type":"`+typeNote+`"`, userName(int(to)))
	}
	b = append(b, `,"title":"Your export “Orders 2026” is ready","body":"300,000 rows, 14 MB. The file is kept for 7 days.","data":{"n":`...)
	b = strconv.AppendInt(b, int64(n), 10)
	if pad > 0 {
		b = append(b, `,"pad":"`+strings.Repeat("x", pad)+`"`...)
	}
	b = append(b, '}')
	if key {
		b = fmt.Appendf(b, `,"key":"key-%d"`, n)
	}
	return append(b, '}')
}

// publish publishes a live event of about the size of a notification.
func (p *poster) publish(topic string) error {
	p.requestAt("/v1/events", fmt.Appendf(p.body[:0],
		`{"topic":%q,"type":"bench.event","data":{"title":"Your export “Orders 2026” is ready","body":"300,000 rows, 14 MB. The file is kept for 7 days."}}`, topic))
	return p.exchange()
}

// request makes the request of the body of a notification.
func (p *poster) request(body []byte) { p.requestAt("/v1/notifications", body) }

func (p *poster) requestAt(path string, body []byte) {
	p.body = body
	p.out = fmt.Appendf(p.out[:0], "POST %s HTTP/1.1\r\nHost: %s\r\n%sContent-Type: application/json\r\nContent-Length: %d\r\n\r\n",
		path, p.server.addr, p.server.service, len(p.body))
	p.out = append(p.out, p.body...)
}

// exchange sends a request with these notes, and reads the response.
func (p *poster) exchange(notes ...int32) error {
	if p.conn == nil {
		conn, err := net.Dial("tcp", p.server.addr)
		if err != nil {
			return err
		}
		p.conn, p.in = conn, bufio.NewReader(conn)
	}
	if err := p.conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return err
	}
	if _, err := p.conn.Write(p.out); err != nil {
		return err
	}
	res, err := http.ReadResponse(p.in, nil)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	if res.StatusCode/100 != 2 {
		return &refusal{res.StatusCode, string(answer)}
	}
	for _, n := range notes {
		_, id, ok := bytes.Cut(answer, []byte(`"id":"`))
		if id, answer, _ = bytes.Cut(id, []byte{'"'}); !ok {
			return fmt.Errorf("an answer without an id: %s", answer)
		}
		if p.ledger.notes[n].seq, err = seqOf(id); err != nil {
			return err
		}
	}
	return nil
}

// idOf returns the id of a notification from the data of its event. It is the last member of this name.
func idOf(data []byte) []byte {
	const name = `"id":"`
	id := data[max(bytes.LastIndex(data, []byte(name)), 0):]
	id, _, _ = bytes.Cut(bytes.TrimPrefix(id, []byte(name)), []byte{'"'})
	return id
}

// seqOf returns the sequence of the id of a notification, "<epoch>-<sequence>".
func seqOf(id []byte) (uint64, error) {
	_, seq, _ := bytes.Cut(id, []byte{'-'})
	n := uint64(0)
	for _, d := range seq {
		if d < '0' || d > '9' {
			return 0, fmt.Errorf("%q is not the id of a notification", id)
		}
		n = n*10 + uint64(d-'0')
	}
	if n == 0 {
		return 0, fmt.Errorf("%q is not the id of a notification", id)
	}
	return n, nil
}
