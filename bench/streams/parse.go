package main

import (
	"bytes"
	"errors"
	"fmt"
)

// parser parses a response with an event stream, in pieces of any size. It supports only what the servers here send: a body
// that is chunked or ends with the connection, and lines that end with \n.
type parser struct {
	state  parseState
	chunks bool
	left   int    // remaining bytes of the chunk
	rest   []byte // an incomplete head or event; nil if there is none
}

type parseState uint8

const (
	inHead parseState = iota
	inSize            // of a chunk
	inBody
	inBreak // between chunks
)

var (
	headEnd  = []byte("\r\n\r\n")
	eventEnd = []byte("\n\n")
)

// feed parses bytes, and calls event for each complete event.
func (p *parser) feed(b []byte, event func(name, id, data []byte) error) error {
	for len(b) > 0 {
		switch p.state {
		case inHead:
			p.rest = append(p.rest, b...)
			head, body, ok := bytes.Cut(p.rest, headEnd)
			if !ok {
				return nil
			}
			if err := p.head(head); err != nil {
				return fmt.Errorf("%w: %.300s", err, p.rest)
			}
			b = b[len(b)-len(body):]
			p.rest = nil
		case inSize:
			switch c := b[0]; {
			case c >= '0' && c <= '9':
				p.left = p.left<<4 | int(c-'0')
			case c|0x20 >= 'a' && c|0x20 <= 'f':
				p.left = p.left<<4 | int(c|0x20-'a'+10)
			case c == '\n':
				p.state = inBody
			case c != '\r':
				return fmt.Errorf("a chunk's size with %q in it", c)
			}
			b = b[1:]
			if p.state == inBody && p.left == 0 {
				return errors.New("the last chunk")
			}
		case inBody:
			part := b
			if p.chunks {
				part = b[:min(len(b), p.left)]
				p.left -= len(part)
				if p.left == 0 {
					p.state = inBreak
				}
			}
			b = b[len(part):]
			if err := p.events(part, event); err != nil {
				return err
			}
		case inBreak:
			if b[0] == '\n' {
				p.state = inSize
			}
			b = b[1:]
		}
	}
	return nil
}

func (p *parser) head(head []byte) error {
	if !bytes.HasPrefix(head, []byte("HTTP/1.1 200 ")) {
		return errors.New("not answered with 200")
	}
	p.state = inBody
	p.chunks = bytes.Contains(head, []byte("Transfer-Encoding: chunked"))
	if p.chunks {
		p.state = inSize
	}
	return nil
}

// events parses the next part of the body.
func (p *parser) events(b []byte, event func(name, id, data []byte) error) error {
	if p.rest != nil {
		p.rest = append(p.rest, b...)
		b = p.rest
	}
	for {
		block, after, ok := bytes.Cut(b, eventEnd)
		if !ok {
			break
		}
		b = after
		var name, id, data []byte
		for line := range bytes.SplitSeq(block, []byte{'\n'}) {
			switch field, value, _ := bytes.Cut(line, []byte(": ")); string(field) {
			case "event":
				name = value
			case "id":
				id = value
			case "data":
				data = value
			}
		}
		if name == nil {
			continue // a comment, or a retry
		}
		if err := event(name, id, data); err != nil {
			return err
		}
	}
	if len(b) == 0 {
		p.rest = nil
	} else {
		p.rest = append([]byte(nil), b...)
	}
	return nil
}
