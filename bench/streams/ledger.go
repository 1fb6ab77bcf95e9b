package main

import (
	"bytes"
	"fmt"
	"sync/atomic"
	"time"
)

// everyone stands for all users where a user is meant.
const everyone = -1

// note is a posted notification, with which the arrivals are compared.
type note struct {
	at  int64  // just before it was posted, Unix nanoseconds
	seq uint64 // its sequence by the server's response; 0 before that
	to  int32  // a user, or everyone
}

// ledger has all notifications of a case. Each has its index in its data. An entry belongs to the goroutine that has drawn it. Entries are read
// after all these goroutines have ended.
type ledger struct {
	notes []note
	drawn atomic.Int32
}

// ledgerSize is more than any case posts. Unused entries cost no memory.
const ledgerSize = 4 << 20

func newLedger() *ledger { return &ledger{notes: make([]note, ledgerSize)} }

// draw returns a new entry.
func (l *ledger) draw(to int32) (n int32, err error) {
	n = l.drawn.Add(1) - 1
	if int(n) >= len(l.notes) {
		return 0, fmt.Errorf("more than %d notifications", len(l.notes))
	}
	l.notes[n].to = to
	return n, nil
}

// posted returns the drawn entries.
func (l *ledger) posted() []note { return l.notes[:l.drawn.Load()] }

// arrival is a notification that a reader got.
type arrival struct {
	note int32
	seq  uint64 // of its event id
	sock int64  // when the kernel put it into the reader's socket, Unix nanoseconds
	read int64  // when it was read from there
}

// verdict counts the errors of the arrivals.
type verdict struct {
	missing, repeated, disordered, foreign int
}

func (v verdict) err() error {
	if v == (verdict{}) {
		return nil
	}
	return fmt.Errorf("delivery is broken: %d notifications missing, %d repeated, %d out of order, %d not the reader's or with another id",
		v.missing, v.repeated, v.disordered, v.foreign)
}

// judge compares the arrivals of each reader with the expected ones: each notification of its user and each broadcast, once, in the order of the
// log.
func (l *ledger) judge(readers []*reader) (v verdict) {
	want := make([]int, len(readers))
	all := 0
	for _, n := range l.posted() {
		switch {
		case n.seq == 0: // never accepted
		case n.to == everyone:
			all++
		default:
			want[n.to]++
		}
	}
	for i, r := range readers {
		if r.deaf {
			continue
		}
		good, last := 0, uint64(0)
		for _, a := range r.got {
			n := l.notes[a.note]
			switch {
			case n.seq != a.seq || n.to != everyone && int(n.to) != i:
				v.foreign++
			case a.seq == last:
				v.repeated++
			case a.seq < last:
				v.disordered++
			default:
				good++
			}
			last = max(last, a.seq)
		}
		v.missing += max(0, want[i]+all-good)
	}
	return v
}

// latencies returns the time of each arrival at a reader that reads, from just before posting to the reader's socket, and to reading. It skips
// notifications that were posted before since.
func (l *ledger) latencies(readers []*reader, since time.Time) (sock, read []time.Duration) {
	for _, r := range readers {
		for _, a := range r.got {
			if at := l.notes[a.note].at; at >= since.UnixNano() {
				sock = append(sock, time.Duration(a.sock-at))
				read = append(read, time.Duration(a.read-at))
			}
		}
	}
	return sock, read
}

// noteOf returns the index of a notification, and whether it is a broadcast.
func noteOf(data []byte) (n int32, all bool, err error) {
	_, digits, ok := bytes.Cut(data, []byte(`"data":{"n":`))
	if !ok || len(digits) == 0 || digits[0] < '0' || digits[0] > '9' {
		return 0, false, fmt.Errorf("not one of ours: %.300s", data)
	}
	for _, d := range digits {
		if d < '0' || d > '9' {
			break
		}
		n = n*10 + int32(d-'0')
	}
	return n, bytes.Contains(data, []byte(`"`+typeEveryone+`"`)), nil
}
